"""Odometry of the real chain against the truth: MuJoCo, the firmware in QEMU, the host's session, dead reckoning.

Without ROS: the session lives in the plant's time, so that the whole runs as fast as the machine can.
"""

import math
import random
from collections.abc import Iterator

import numpy as np
import pytest

from dsac_robot.apps.firmware_qemu import FirmwareInQemu, firmware_image
from dsac_robot.core.base_link import BaseLink, Expected, Phase
from dsac_robot.core.base_odometry import DeadReckoning, Estimate, wheels_of_twist
from dsac_robot.core.firmware_params import FIRMWARE_VERSION, firmware_params, limits_crc, wheel_radps_max
from dsac_robot.core.kinematics import wrap_angle
from dsac_robot.core.protocol_enums import State
from dsac_robot.core.protocol_messages import Imu, Odom
from dsac_robot.core.robot import Robot
from dsac_robot.nodes.base_port import open_port
from sim.firmware_plant import FirmwarePlant
from sim.motors import MotorPlant
from sim.worlds import World

SIDE_M, SPEED_MPS = 10.0, 1.9
FLOOR = World("floor", np.zeros((0, 3)), (0.0, 0.0, 0.0), (1.0, 0.0), 1.0)
COMMAND_STEPS = 4  # of 5 ms


class Chain:
    """Robot, firmware and host in lockstep."""

    def __init__(self, robot: Robot) -> None:
        self.robot = robot
        self.firmware = FirmwareInQemu(firmware_image(robot.name))
        self.plant = MotorPlant(robot, FLOOR, seed=0)
        self.inputs = FirmwarePlant("127.0.0.1", self.firmware.plant_port)
        self.port = open_port(self.firmware.link_url, 0)
        rng = random.Random(0)
        expected = Expected(firmware_params(robot), limits_crc(robot), None, FIRMWARE_VERSION)
        self.link = BaseLink(expected, lambda: rng.randrange(1, 2**32))
        self.odometry = DeadReckoning(robot)
        self.estimate: Estimate | None = None
        self.steps = 0
        self.port.write(self.link.opened(self.now_ns))

    @property
    def now_ns(self) -> int:
        return self.plant.simulator.time_ns

    def step(self, speed: float = 0.0, turn: float = 0.0) -> None:
        """5 ms of all three."""
        drive = self.inputs.exchange(self.plant.state())
        duties = (drive.left_duty_e4, drive.right_duty_e4) if drive.enabled else (0, 0)
        self.plant.step(*(1e-4 * duty for duty in duties))
        self.steps += 1
        for message in self.link.feed(self.now_ns, self.port.read()):
            if isinstance(message, Imu):
                self.odometry.add_gyro(message.t_us, message.gyro_z_uradps * 1e-6)
            elif isinstance(message, Odom):
                self.estimate = self.odometry.add_ticks(message.t_us, message.left_ticks, message.right_ticks)
        out = self.link.poll(self.now_ns)
        if self.steps % COMMAND_STEPS == 0:
            wheels = wheels_of_twist(speed, turn, self.robot, wheel_radps_max(self.robot))
            out += self.link.command(*wheels, self.now_ns, self.now_ns)
        self.port.write(out)

    def until(self, phase: Phase) -> None:
        for _ in range(2000):
            if self.link.phase == phase:
                return
            self.step()
        raise AssertionError(f"never {phase.name}: {self.link.phase.name} {self.link.why_not_armable}")

    def close(self) -> None:
        self.port.close()
        self.inputs.close()
        self.firmware.end()


@pytest.fixture
def chain(robot: Robot) -> Iterator[Chain]:
    made = Chain(robot)
    yield made
    made.close()


def test_odometry_on_a_square_of_10_m_is_within_2_percent_of_the_truth(chain: Chain) -> None:
    chain.until(Phase.READY)
    chain.link.arm(chain.now_ns)
    chain.until(Phase.ARMED)
    for side in range(4):
        heading = side * 0.5 * math.pi
        start = chain.estimate.pose
        while math.dist(chain.estimate.pose[:2], start[:2]) < SIDE_M:
            chain.step(SPEED_MPS, 2.0 * wrap_angle(heading - chain.estimate.pose[2]))
        while abs(wrap_angle(heading + 0.5 * math.pi - chain.estimate.pose[2])) > 0.02:
            chain.step(0.0, 1.5 * math.copysign(1.0, wrap_angle(heading + 0.5 * math.pi - chain.estimate.pose[2])))
        truth = chain.plant.simulator.true_odom()
        error = math.dist((truth.x_m, truth.y_m), chain.estimate.pose[:2])
        driven = (side + 1) * SIDE_M
        assert error < 0.02 * driven
        assert abs(wrap_angle(truth.yaw_rad - chain.estimate.pose[2])) < 0.05
        assert error < 4.0 * math.sqrt(np.trace(chain.estimate.pose_covariance[:2, :2]))
    for _ in range(200):
        chain.step()
    assert chain.link.state == State.ACTIVE
    assert chain.link.counters.dropped == chain.link.counters.lost == 0
