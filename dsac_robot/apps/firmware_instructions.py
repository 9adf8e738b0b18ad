"""Instructions of one control period and of one received frame in the ARM image, counted one by one under QEMU."""

from __future__ import annotations

import socket
import struct
from dataclasses import asdict, dataclass
from pathlib import Path

from dsac_robot.apps.firmware_gdb import Debugger, function_addresses
from dsac_robot.apps.firmware_qemu import FirmwareInQemu, free_ports
from dsac_robot.core.protocol import DELIMITER, encode_frame, encode_raw
from dsac_robot.core.protocol_enums import MAGIC_ARM, PROTOCOL_VERSION, StateRequest
from dsac_robot.core.protocol_fields import Message
from dsac_robot.core.protocol_messages import CmdWheels, HelloReq, StateReq, TimeSync

PERIOD_US = 5000
CLOCK_US = 1_000_000  # of the base when the plant's is 0
PLANT_POKE, RESTART_AT, PLANT_LINK = 0x71, 3, 0x72  # docs/firmware.md, the plant port
PAYLOAD_BYTES = 64  # the longest
SPEED_MRADPS, TICKS_PER_PERIOD = 10_500, 65  # the encoders turn at 10 rad/s: the controller has something to do
SECOND = 200  # periods; the last of each sends all that there is to send
LAST_COMMAND = 2 * SECOND - 40  # its watchdog fires with the last period of the second second
SESSION = 252  # the first of a first boot


@dataclass(frozen=True)
class Instructions:
    """Executed instructions. A tick is ``base_tick``; a frame is ``base_receive`` with all bytes of one frame."""

    tick_plain: int  # ACTIVE: both wheels under control, nothing to send
    tick_odometry: int  # the same, and ODOM and IMU
    tick_status: int  # the same, and STATUS and LINK_STATS
    tick_timeout: int  # the same, and the command watchdog fires, with its events
    frame_command: int
    frame_time_sync: int
    frame_damaged: int  # the longest there is, with a wrong CRC
    frame_hello: int  # a new session: HELLO and events are sent

    @property
    def tick_max(self) -> int:
        """The most of the control periods."""
        return max(value for name, value in asdict(self).items() if name.startswith("tick"))

    @property
    def frame_max(self) -> int:
        """The most of the frames."""
        return max(value for name, value in asdict(self).items() if name.startswith("frame"))


def count_instructions(image: Path) -> Instructions:
    """Run the image for QEMU in lockstep through two seconds of a drive, and count.

    Raises DebuggerError and OSError where QEMU does not behave.
    """
    gdb_port = free_ports(1)[0]
    with FirmwareInQemu(image, gdb_port) as firmware:
        host, _, port = firmware.plant_address.partition(":")
        with socket.create_connection((host, int(port)), 10.0) as plant:
            plant.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            debugger = Debugger(gdb_port)
            try:
                return _drive(_Counted(debugger, plant, function_addresses(image)))
            finally:
                debugger.close()


class _Counted:
    """The firmware, stopped at its last control period whenever nothing is asked of it."""

    def __init__(self, debugger: Debugger, plant: socket.socket, address: dict[str, int]) -> None:
        self._debugger, self._plant, self._seq, self._plant_seq = debugger, plant, 0, 0
        self._tick, self._receive = address["base_tick"], address["base_receive"]
        self.ticks = 0
        self._to_plant(PLANT_POKE, struct.pack("<BQ", RESTART_AT, CLOCK_US))
        debugger.stop_at(address["base_init"])
        for _ in range(2):  # the boot, and the one that the poke asked for
            debugger.resume()
            debugger.wait()
        debugger.stop_at(self._tick)
        self._state()

    def _to_plant(self, kind: int, payload: bytes) -> None:
        self._plant_seq = self._plant_seq % 255 + 1
        self._plant.sendall(DELIMITER + encode_raw(kind, self._plant_seq, payload))

    def _state(self) -> None:
        """Give the plant's next state."""
        turned = self.ticks * TICKS_PER_PERIOD
        now_us = self.ticks * PERIOD_US
        self._to_plant(0x70, struct.pack("<Qqq6iIB", now_us, turned, turned, 0, 0, 0, 0, 0, 9_806_650, 25_000, 0))

    def tick(self) -> None:
        """Go on to the next control period."""
        self.ticks += 1
        self._state()
        self._debugger.resume()
        self._debugger.wait()

    def count_tick(self) -> int:
        """Instructions of the next control period."""
        self.tick()
        return self._debugger.count_to_return()

    def send(self, message: Message | bytes) -> int:
        """Give a frame to the link, which is received before the next control period. Returns its bytes."""
        self._seq += 1
        data = message if isinstance(message, bytes) else encode_frame(message, self._seq & 0xFF)
        for at in range(0, len(data), PAYLOAD_BYTES):
            self._to_plant(PLANT_LINK, data[at : at + PAYLOAD_BYTES])
        return len(data)

    def count_frame(self, message: Message | bytes) -> int:
        """Instructions of receiving a frame, which comes in one piece or several."""
        left, count = self.send(message), 0
        self._debugger.stop_at(self._receive)
        while left > 0:
            self._debugger.resume()
            self._debugger.wait()
            length = self._debugger.registers()[2]
            if length > 0:
                left -= length
                count += self._debugger.count_to_return()
        self._debugger.go_past(self._receive)
        return count


def _drive(base: _Counted) -> Instructions:
    def command() -> CmdWheels:
        return CmdWheels(SPEED_MRADPS, SPEED_MRADPS, SESSION, CLOCK_US + base.ticks * PERIOD_US)

    def go_on(ticks: int) -> None:
        while base.ticks < ticks:
            if base.ticks % 20 == 0 and base.ticks <= LAST_COMMAND:
                base.send(command())
            base.tick()

    go_on(4)
    base.send(HelloReq(PROTOCOL_VERSION, 7))
    base.send(StateReq(StateRequest.ARM, MAGIC_ARM, SESSION))
    go_on(SECOND - 10)
    plain, odometry = base.count_tick(), base.count_tick()
    received = base.count_frame(command())
    go_on(SECOND - 1)
    status = base.count_tick()
    go_on(2 * SECOND - 1)
    timeout = base.count_tick()
    damaged = bytearray(encode_raw(0x7F, 1, bytes(range(1, PAYLOAD_BYTES + 1))))
    damaged[-2] ^= 1
    return Instructions(
        tick_plain=plain,
        tick_odometry=odometry,
        tick_status=status,
        tick_timeout=timeout,
        frame_command=received,
        frame_time_sync=base.count_frame(TimeSync(1)),
        frame_damaged=base.count_frame(bytes(damaged)),
        frame_hello=base.count_frame(HelloReq(PROTOCOL_VERSION, 8)),
    )
