"""The firmware as an ARM program under QEMU (machine mps2-an386): built if need be, with link and plant port on TCP."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from dsac_robot.core.files import share_path

QEMU = "qemu-system-arm"
MACHINE = "mps2-an386"
START_S = 10.0
END_S = 5.0
PR_SET_PDEATHSIG = 1  # linux/prctl.h


class FirmwareError(RuntimeError):
    """The firmware cannot be built or run. The message says what is missing and how to get it."""


def firmware_folder() -> Path:
    """The folder firmware/ of the source tree. Raises FirmwareError where only the package is installed."""
    folder = share_path("config").parent / "firmware"
    if not (folder / "Makefile").is_file():
        raise FirmwareError(f"{folder} has no Makefile: the firmware is built from a source tree, not a wheel")
    return folder


def firmware_image(robot: str) -> Path:
    """The image for QEMU and this robot, built if it is not up to date. Raises FirmwareError."""
    folder = firmware_folder()
    for tool, package in (("make", "make"), ("arm-none-eabi-gcc", "gcc-arm-none-eabi libnewlib-arm-none-eabi")):
        if shutil.which(tool) is None:
            raise FirmwareError(f"{tool} is not installed: sudo apt-get install {package}")
    built = subprocess.run(
        ["make", "-s", "-C", str(folder), "qemu", f"ROBOT={robot}"], capture_output=True, text=True, check=False
    )
    if built.returncode != 0:
        raise FirmwareError(f"make -C {folder} qemu ROBOT={robot} failed:\n{built.stderr.strip()[-2000:]}")
    return folder / "build" / robot / "qemu.elf"


class FirmwareInQemu:
    """A running firmware. Use as a context manager: QEMU ends with it.

    It also ends with the thread that made it, however that ends: make it in one that lives as long as the firmware is
    to, such as the main thread. ``gdb_port``: where QEMU waits for a debugger, before the first instruction.
    """

    def __init__(self, image: Path, gdb_port: int | None = None) -> None:
        if shutil.which(QEMU) is None:
            raise FirmwareError(f"{QEMU} is not installed: sudo apt-get install qemu-system-arm")
        self.link_port, self.plant_port = free_ports(2)
        serials = []
        for name, port in (("link", self.link_port), ("plant", self.plant_port)):
            chardev = f"socket,id={name},host=127.0.0.1,port={port},server=on,wait=off,nodelay=on"
            serials += ["-chardev", chardev, "-serial", f"chardev:{name}"]
        command = [QEMU, "-M", MACHINE, "-display", "none", "-nodefaults", "-monitor", "none", "-kernel", str(image)]
        debugger = []
        if gdb_port is not None:
            # By instructions goes the guest's time then: no watchdog fires while it is stepped
            debugger = ["-S", "-gdb", f"tcp:127.0.0.1:{gdb_port}", "-icount", "shift=3"]
        self._process = subprocess.Popen(
            [*command, *serials, *debugger],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,  # the terminal's Ctrl-C is for those that are to end first
            preexec_fn=_end_with(os.getpid()),
        )
        self._wait_until_it_listens({self.link_port, self.plant_port} | ({gdb_port} if gdb_port is not None else set()))

    @property
    def link_url(self) -> str:
        """The parameter ``port`` of the node ``base``."""
        return f"socket://127.0.0.1:{self.link_port}"

    @property
    def plant_address(self) -> str:
        """The parameter ``firmware_plant`` of the simulated robot."""
        return f"127.0.0.1:{self.plant_port}"

    def __enter__(self) -> FirmwareInQemu:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def check(self) -> None:
        """Raise FirmwareError where QEMU has ended."""
        if self._process.poll() is not None:
            raise FirmwareError(f"{QEMU} ended with status {self._process.returncode}: {self._last_words()}")

    def end(self) -> None:
        """End QEMU. May be called twice."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(END_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._process.stderr is not None:
            self._process.stderr.close()

    def _last_words(self) -> str:
        words = self._process.stderr.read() if self._process.stderr is not None else b""
        return words.decode(errors="replace").strip()[-500:]

    def _wait_until_it_listens(self, ports: set[int]) -> None:
        """QEMU accepts one connection a port and takes the first: so its listening is looked up, not tried."""
        end_s = time.monotonic() + START_S
        while not ports <= _listening_ports():
            self.check()
            if time.monotonic() > end_s:
                self.end()
                raise FirmwareError(f"{QEMU} does not listen on its ports within {START_S} s")
            time.sleep(0.01)


def _end_with(parent: int) -> Callable[[], None]:
    """What a child of ``parent`` calls first, so that the kernel ends it where the parent dies, by SIGKILL as well."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl  # looked up here: between fork and exec as little as possible

    def ask() -> None:
        if prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0 or os.getppid() != parent:
            os._exit(1)  # it has died already

    return ask


def free_ports(count: int) -> list[int]:
    """TCP ports of the loopback interface that were free just now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [made.getsockname()[1] for made in sockets]
    for made in sockets:
        made.close()
    return ports


def _listening_ports() -> set[int]:
    """Ports on which somebody listens, from /proc/net/tcp (state 0A)."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]]
    return {int(fields[1].rpartition(":")[2], 16) for fields in lines if fields[3] == "0A"}
