"""The peer of tests/core/base_peer.py on a TCP port, with wheels that follow at once."""

import contextlib
import math
import socket
import threading
import time
from dataclasses import replace

from dsac_robot.core.firmware_params import firmware_params, limits_crc
from dsac_robot.core.protocol_enums import EventCode, State
from dsac_robot.core.protocol_messages import Event, Imu
from dsac_robot.core.robot import Robot
from tests.core.base_peer import HELLO, Peer

PERIOD_S = 0.01


class BaseServer:
    """Serves one connection after the other. ``peer`` may be looked at and told to misbehave under ``lock``."""

    def __init__(self, robot: Robot) -> None:
        self.robot = robot
        self.lock = threading.Lock()
        self.peer = Peer(replace(HELLO, limits_crc=limits_crc(robot), build_id=b"buildid1"), firmware_params(robot))
        self.turns = [0.0, 0.0]  # of the wheels, rad
        self.connections = 0
        self.timeout_us = 60_000_000  # of commands; long, for a machine under load
        self._closing = False
        self._connection: socket.socket | None = None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.05)
        self.url = f"socket://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def cut(self) -> None:
        """Close the connection, as a cable that is pulled."""
        with contextlib.suppress(OSError):  # it is closed already
            if self._connection is not None:
                self._connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._closing = True
        self.cut()
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while not self._closing:
            try:
                self._connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            self.connections += 1
            self._connection.settimeout(0.001)
            with self._connection, contextlib.suppress(OSError):  # the node has closed it
                self._talk(self._connection)

    def _talk(self, connection: socket.socket) -> None:
        due = time.monotonic()
        while not self._closing:
            try:
                data = connection.recv(4096)
                if not data:
                    return
            except TimeoutError:
                data = b""
            now = time.monotonic()
            with self.lock:
                out = self.peer.feed(time.monotonic_ns() // 1000, data)
                if now >= due:
                    due += PERIOD_S
                    out += self._step() + self._telemetry()
            connection.sendall(out)

    def _step(self) -> bytes:
        """10 ms of the wheels, with the watchdog of commands."""
        peer = self.peer
        if peer.state == State.ACTIVE and peer.commands:
            last = peer.commands[-1]
            if peer.now_us - last.stamp_us > self.timeout_us:
                event = Event(peer.now_us, EventCode.COMMAND_TIMEOUT, State.STOPPING, 200_000)
                return peer.frame(event) + peer.go(State.STOPPING)
            self.turns[0] += last.left_mradps * 1e-3 * PERIOD_S
            self.turns[1] += last.right_mradps * 1e-3 * PERIOD_S
        elif peer.state in (State.DISARMING, State.STOPPING):
            return peer.go(State.IDLE)
        return b""

    def _telemetry(self) -> bytes:
        peer, per_turn = self.peer, self.robot.odometry.ticks_per_turn / (2 * math.pi)
        peer.ticks = (round(self.turns[0] * per_turn), round(self.turns[1] * per_turn))
        imu = Imu(peer.now_us, 0, 0, 0, 0, 0, 9_806_650, 2500)
        return peer.telemetry() + peer.frame(imu)
