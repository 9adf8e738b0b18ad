"""The plant port: how the firmware under QEMU gets its encoders, IMU, battery and e-stop, and gives its drive.

A second byte stream beside the link, with the link's framing (COBS, CRC, delimiter; docs/protocol.md) and two
messages of the types that are for test builds only. In lockstep: the simulator sends PLANT_STATE, the firmware takes
its clock from it (its own timer's value at the first one, plus the plant's time since then), runs all control periods
that are due up to then, and answers with one PLANT_DRIVE. Between two states its clock stands still; the link is served
all the time. So simulated time, the firmware's time and ROS time are one, however slow the machine is.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Annotated

from dsac_robot.core.protocol import DELIMITER, FrameDecoder, encode_frame
from dsac_robot.core.protocol_enums import Direction, State
from dsac_robot.core.protocol_fields import Message, wire
from sim.motors import PlantState

ANSWER_S = 5.0  # of the wall clock, for a machine under load


@dataclass(frozen=True)
class PlantInputs(Message, type_id=0x70, to=Direction.TO_BASE):
    """PLANT_STATE: what the inputs of the firmware's board see."""

    t_us: Annotated[int, wire("u64")]  # of the plant
    left_ticks: Annotated[int, wire("i64")]
    right_ticks: Annotated[int, wire("i64")]
    gyro_x_uradps: Annotated[int, wire("i32")]
    gyro_y_uradps: Annotated[int, wire("i32")]
    gyro_z_uradps: Annotated[int, wire("i32")]
    accel_x_umps2: Annotated[int, wire("i32")]
    accel_y_umps2: Annotated[int, wire("i32")]
    accel_z_umps2: Annotated[int, wire("i32")]
    battery_mv: Annotated[int, wire("u32")]
    estop_pressed: Annotated[int, wire("u8", 0, 1)]


@dataclass(frozen=True)
class PlantDrive(Message, type_id=0xF0, to=Direction.TO_HOST):
    """PLANT_DRIVE: the outputs of the firmware's board."""

    t_us: Annotated[int, wire("u64")]  # firmware's clock
    left_duty_e4: Annotated[int, wire("i16", -10_000, 10_000)]
    right_duty_e4: Annotated[int, wire("i16", -10_000, 10_000)]
    enabled: Annotated[int, wire("u8", 0, 1)]  # the enable line of the motor drivers
    state: Annotated[State, wire("u8")]


class PlantError(ConnectionError):
    """The firmware does not answer on its plant port. The message names the port."""


class FirmwarePlant:
    """The simulator's end of the plant port, ``host:port`` over TCP."""

    def __init__(self, host: str, port: int) -> None:
        self._name = f"{host}:{port}"
        try:
            self._socket = socket.create_connection((host, port), ANSWER_S)
        except OSError as error:
            raise PlantError(f"plant port {self._name}: {error}: does the firmware run?") from error
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(DELIMITER)
        self._decoder, self._seq = FrameDecoder(Direction.TO_HOST, (PlantDrive,)), 0

    def exchange(self, state: PlantState) -> PlantDrive:
        """Give the firmware its inputs and wait for its outputs. Raises PlantError where none come."""
        self._seq += 1
        try:
            self._socket.sendall(encode_frame(_inputs(state), self._seq))
            while True:
                data = self._socket.recv(4096)
                if not data:
                    raise PlantError(f"plant port {self._name}: closed by the firmware")
                for _, message in self._decoder.feed(data):
                    if isinstance(message, PlantDrive):
                        return message
        except TimeoutError as error:
            raise PlantError(f"plant port {self._name}: no answer within {ANSWER_S} s") from error

    def close(self) -> None:
        """Close the connection; the firmware's clock stands still then."""
        self._socket.close()


def _inputs(state: PlantState) -> PlantInputs:
    micro = (state.gyro_z_radps, state.accel_x_mps2, state.accel_y_mps2, state.accel_z_mps2)
    gyro_z, accel_x, accel_y, accel_z = (round(1e6 * value) for value in micro)
    battery_mv, pressed = round(1e3 * state.battery_v), int(state.estop_pressed)
    time_us = state.time_ns // 1000
    return PlantInputs(
        time_us,
        state.left_ticks,
        state.right_ticks,
        0,
        0,
        gyro_z,
        accel_x,
        accel_y,
        accel_z,
        battery_mv,
        pressed,
    )
