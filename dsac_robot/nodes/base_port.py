"""The byte pipe to the base: a serial device, or ``socket://HOST:PORT`` for a base that QEMU or a network bridge runs.

Reading never waits and writing never blocks: bytes that a stalled link does not take are dropped whole frames at a
time, since a command that waits is worth nothing.
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import termios
import tty

CONNECT_S = 1.0
BACKLOG_BYTES_MAX = 4096
SPEEDS = {int(name[1:]): getattr(termios, name) for name in dir(termios) if name[0] == "B" and name[1:].isdigit()}


class PortError(OSError):
    """The port cannot be opened, or is gone. The message names it."""


class Port:
    """An open port. Make one with ``open_port``."""

    def __init__(self, name: str, descriptor: int, owner: socket.socket | None = None) -> None:
        self.name, self._descriptor, self._owner = name, descriptor, owner
        self._unsent = b""
        self.dropped = 0  # frames that the link did not take
        os.set_blocking(descriptor, False)

    def fileno(self) -> int:
        """For select."""
        return self._descriptor

    def wait(self, timeout_s: float) -> None:
        """Until there is something to read, at most so long."""
        select.select([self._descriptor], [], [], timeout_s)

    def read(self) -> bytes:
        """What has come; empty: nothing yet. Raises PortError where the other end is gone."""
        try:
            data = os.read(self._descriptor, 4096)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise PortError(f"{self.name}: {error.strerror}") from error
        if not data:
            raise PortError(f"{self.name}: closed by the other end")
        return data

    def write(self, frames: bytes) -> None:
        """Send whole frames, as many as the link takes at once. Raises PortError where the other end is gone."""
        if len(self._unsent) + len(frames) > BACKLOG_BYTES_MAX:
            self.dropped += frames.count(0)
            frames = b""
        self._unsent += frames
        if not self._unsent:
            return
        try:
            self._unsent = self._unsent[os.write(self._descriptor, self._unsent) :]
        except BlockingIOError:
            return
        except OSError as error:
            raise PortError(f"{self.name}: {error.strerror}") from error

    def close(self) -> None:
        """Close it. Output that was taken is still sent."""
        if self._owner is not None:
            self._owner.close()
        else:
            os.close(self._descriptor)


def open_port(name: str, baud: int) -> Port:
    """Open ``socket://HOST:PORT`` or a serial device (raw, 8N1, for us alone).

    Raises PortError naming the port, and for a serial one the speeds that there are, where it cannot be opened.
    """
    if name.startswith("socket://"):
        return _open_socket(name)
    if baud not in SPEEDS:
        raise PortError(f"{name}: no serial speed {baud}; there are {', '.join(map(str, sorted(SPEEDS)))}")
    try:
        descriptor = os.open(name, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError as error:
        raise PortError(
            f"{name}: {error.strerror}: check the cable, the parameter `port` and the group dialout"
        ) from error
    try:
        tty.setraw(descriptor)
        fcntl.ioctl(descriptor, termios.TIOCEXCL)
        settings = termios.tcgetattr(descriptor)
        settings[2] = settings[2] & ~termios.CSTOPB & ~termios.CRTSCTS | termios.CLOCAL | termios.CREAD
        settings[4] = settings[5] = SPEEDS[baud]
        termios.tcsetattr(descriptor, termios.TCSANOW, settings)
        termios.tcflush(descriptor, termios.TCIOFLUSH)
    except termios.error as error:
        os.close(descriptor)
        raise PortError(f"{name}: not a serial port: {error.args[-1]}") from error
    return Port(name, descriptor)


def check_port_name(name: str) -> None:
    """Raise PortError where ``name`` is neither ``socket://HOST:PORT`` nor the path of a device."""
    if name.startswith("socket://"):
        _address(name)
    elif not name.startswith("/"):
        raise PortError(f"port = {name!r} must be socket://HOST:PORT or the path of a serial device (/dev/ttyACM0)")


def _address(name: str) -> tuple[str, int]:
    host, _, number = name.removeprefix("socket://").rpartition(":")
    if not host or not number.isdigit() or not 0 < int(number) < 65536:
        raise PortError(f"port = {name!r} must be of the form socket://HOST:PORT, PORT from 1 to 65535")
    return host, int(number)


def _open_socket(name: str) -> Port:
    try:
        made = socket.create_connection(_address(name), CONNECT_S)
    except OSError as error:
        if isinstance(error, PortError):
            raise
        raise PortError(f"{name}: {error.strerror or error}") from error
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return Port(name, made.fileno(), made)
