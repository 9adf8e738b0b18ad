"""Counting the instructions of the ARM image: QEMU stops at a function and is stepped until it returns.

Just enough of GDB's remote protocol (GDB manual, appendix E) for that. QEMU holds interrupts back while it steps, so
the count is of the function and what it calls, the same on every machine.
"""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

ANSWER_S = 20.0
LINK_REGISTER, PROGRAM_COUNTER, STACK_POINTER = 14, 15, 13
STEPS_MAX = 200_000


class DebuggerError(ConnectionError):
    """QEMU's debugger port does not say what it should. The message says what it said."""


def function_addresses(image: Path) -> dict[str, int]:
    """Address of each function of an image."""
    made = subprocess.run(["arm-none-eabi-nm", str(image)], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in made.splitlines()]
    return {row[2]: int(row[0], 16) & ~1 for row in rows if len(row) == 3 and row[1] in "Tt"}


class Debugger:
    """A connection to QEMU's ``-gdb`` port."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), ANSWER_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._got = b""
        self._send("qXfer:features:read:target.xml:0,fff")  # without that QEMU tells no single registers
        self._receive()

    def close(self) -> None:
        """Close it; QEMU goes on where it stands."""
        self._socket.close()

    def stop_at(self, address: int) -> None:
        """Let it stop whenever it comes to an address."""
        self._ask(f"Z0,{address:x},2", "OK")

    def go_past(self, address: int) -> None:
        """Not any more."""
        self._ask(f"z0,{address:x},2", "OK")

    def resume(self) -> None:
        """Let it run; ``wait`` waits for its next stop. One step first: QEMU would stop where it stands."""
        self._send("s")
        self.wait()
        self._send("c")

    def wait(self) -> None:
        """Until it has stopped."""
        answer = self._receive()
        if not answer.startswith(("S05", "T05")):
            raise DebuggerError(f"QEMU stopped with {answer!r}, not at a breakpoint")

    def program_counter(self) -> int:
        """The register pc."""
        self._send(f"p{PROGRAM_COUNTER:x}")
        return int.from_bytes(bytes.fromhex(self._receive()), "little")

    def registers(self) -> list[int]:
        """r0 to r12, sp, lr, pc."""
        self._send("g")
        text = self._receive()
        return [int.from_bytes(bytes.fromhex(text[8 * i : 8 * i + 8]), "little") for i in range(16)]

    def count_to_return(self) -> int:
        """Step from the first instruction of a function until it has returned. Returns the instructions executed."""
        begin = self.registers()
        back, stack = begin[LINK_REGISTER] & ~1, begin[STACK_POINTER]
        for count in range(1, STEPS_MAX):
            self._send("s")
            self.wait()
            if self.program_counter() == back and self.registers()[STACK_POINTER] == stack:
                return count
        raise DebuggerError(f"the function did not return within {STEPS_MAX} instructions")

    def _ask(self, command: str, wanted: str) -> None:
        self._send(command)
        answer = self._receive()
        if answer != wanted:
            raise DebuggerError(f"QEMU answers {answer!r} to {command!r}")

    def _send(self, text: str) -> None:
        body = text.encode()
        self._socket.sendall(b"$%s#%02x" % (body, sum(body) & 0xFF))

    def _receive(self) -> str:
        """The next packet, acknowledged."""
        while b"#" not in self._got or len(self._got) < self._got.index(b"#") + 3:
            data = self._socket.recv(4096)
            if not data:
                raise DebuggerError("QEMU closed its debugger port")
            self._got += data
        packet, self._got = self._got.split(b"#", 1)
        self._got = self._got[2:]
        self._socket.sendall(b"+")
        return packet.split(b"$", 1)[1].decode()
