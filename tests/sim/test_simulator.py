"""The simulated robot: reproducible, and moving, braking, touching and measuring as the robot file says."""

import dataclasses
import math

import numpy as np
import pytest

from dsac_robot.core.kinematics import wrap_angle
from dsac_robot.core.robot import Robot, load_robot
from dsac_robot.core.values import NS, Command, Contact, Imu, Odom, Sample, Scan, ns
from sim.simulator import SimParams, Simulator
from sim.worlds import World, empty_world

ROBOT = load_robot("jackal")
ROBOTS = {name: load_robot(name) for name in ("burger", "jackal", "rosbot_xl")}
each_robot = pytest.mark.parametrize("robot", ROBOTS.values(), ids=ROBOTS)
ACTUATION = ROBOT.actuation
SEND_NS = ns(0.02)
IDEAL = SimParams(noise=False)
BARE = World("bare", np.zeros((0, 3)), (1.0, -2.0, 0.7), (5.0, 5.0), 8.0)
POSTS = empty_world((4.0, 0.0))


class Drive:
    """A simulator, driven, with a log of all samples and of time, true speed and yaw rate, every 5 ms."""

    def __init__(self, world: World = BARE, seed: int = 0, params: SimParams = IDEAL, robot: Robot = ROBOT) -> None:
        self.sim = Simulator(robot, world, seed, params)
        self.samples: list[Sample] = []
        self.truth: list[tuple[float, float, float]] = []

    def run(self, seconds: float, command: tuple[float, float] | None = None) -> np.ndarray:
        """Send ``command`` at the guard's rate (None: silence); returns the truth of this stretch. # (T, 3)"""
        first, end_ns = len(self.truth), self.sim.time_ns + ns(seconds)
        while self.sim.time_ns < end_ns:
            if command is not None and self.sim.time_ns % SEND_NS == 0:
                self.sim.send(Command(self.sim.time_ns, *command))
            self.samples += self.sim.advance(self.sim.time_ns + ns(0.005))
            self.truth.append((self.sim.time_ns / NS, *self.sim.twist))
        return np.array(self.truth[first:])

    def of(self, kind: type) -> list:
        """The samples of one kind."""
        return [sample for sample in self.samples if isinstance(sample, kind)]


def moved_m(start: tuple[float, float, float], end: tuple[float, float, float]) -> float:
    return math.hypot(end[0] - start[0], end[1] - start[1])


def bits(samples: list[Sample]) -> list[tuple]:
    """Everything in the samples, so that NaN equals NaN and one flipped bit does not."""
    return [
        (type(s).__name__, *(v.tobytes() if isinstance(v, np.ndarray) else repr(v) for v in vars(s).values()))
        for s in samples
    ]


def noisy_drive(seed: int, robot: Robot = ROBOT) -> list[Sample]:
    drive = Drive(POSTS, seed, SimParams(imu=True), robot)
    drive.run(0.5, (1.0, 0.8))
    drive.run(0.5, (0.3, -1.5))
    return drive.samples


@each_robot
def test_the_same_seed_gives_the_same_samples_bit_for_bit(robot: Robot) -> None:
    assert bits(noisy_drive(4, robot)) == bits(noisy_drive(4, robot))


def test_another_seed_gives_other_noise() -> None:
    assert bits(noisy_drive(4)) != bits(noisy_drive(5))


@each_robot
def test_how_far_each_advance_goes_does_not_change_the_samples(robot: Robot) -> None:
    def drive(step_ns: int) -> list[Sample]:
        sim = Simulator(robot, POSTS, 1, SimParams(imu=True))
        sim.send(Command(0, 1.0, 0.5))
        samples = []
        while sim.time_ns < ns(0.6):
            samples += sim.advance(sim.time_ns + step_ns)
        return samples

    assert bits(drive(ns(0.005))) == bits(drive(ns(0.1)))


def test_samples_come_at_the_sensors_rates_in_order_of_stamps_with_odometry_before_the_scan() -> None:
    samples = noisy_drive(0)
    stamps = [sample.stamp_ns for sample in samples]
    assert stamps == sorted(stamps)
    for kind, rate_hz in ((Scan, ROBOT.lidar.rate_hz), (Odom, ROBOT.odometry.rate_hz), (Imu, ROBOT.imu.rate_hz)):
        mine = [sample.stamp_ns for sample in samples if isinstance(sample, kind)]
        assert mine == list(range(0, NS + 1, round(NS / rate_hz)))
    for i, sample in enumerate(samples):
        if isinstance(sample, Scan):
            assert not any(isinstance(s, Odom) and s.stamp_ns == sample.stamp_ns for s in samples[i:])


@each_robot
def test_sensors_of_every_robot_keep_their_rate(robot: Robot) -> None:
    drive = Drive(params=dataclasses.replace(IDEAL, imu=True), robot=robot)
    drive.run(2.0)
    for kind, rate_hz in ((Scan, robot.lidar.rate_hz), (Odom, robot.odometry.rate_hz), (Imu, robot.imu.rate_hz)):
        assert len(drive.of(kind)) == pytest.approx(2.0 * rate_hz + 1.0, abs=1.0)


@each_robot
def test_a_straight_line_at_constant_speed_takes_the_time_it_must(robot: Robot) -> None:
    drive = Drive(robot=robot)
    speed = 0.5 * robot.limits.speed_mps_max
    drive.run(1.5, (speed, 0.0))  # up to speed
    before = drive.sim.pose
    drive.run(3.0, (speed, 0.0))
    assert moved_m(before, drive.sim.pose) == pytest.approx(3.0 * speed, rel=0.03)
    assert abs(wrap_angle(drive.sim.pose[2] - BARE.start[2])) < 0.02


@each_robot
@pytest.mark.parametrize("yaw_rate", [1.0, -1.0])
def test_a_turn_in_place_has_the_effective_track_of_the_robot_file_and_keeps_all_wheels_on_the_ground(
    yaw_rate: float, robot: Robot
) -> None:
    drive = Drive(robot=robot)
    drive.run(1.0, (0.0, yaw_rate))
    before = drive.sim.pose
    turned, down = 0.0, []
    for _ in range(60):
        yaw = drive.sim.pose[2]
        drive.run(0.05, (0.0, yaw_rate))
        turned += wrap_angle(drive.sim.pose[2] - yaw)
        down.append(all(drive.sim.supports()))
    assert turned == pytest.approx(3.0 * yaw_rate, rel=0.15)
    assert moved_m(before, drive.sim.pose) < 0.1
    assert np.mean(down) > 0.95


@each_robot
def test_a_curve_keeps_the_wheels_on_the_ground(robot: Robot) -> None:
    drive = Drive(robot=robot)
    command = (0.5 * robot.limits.speed_mps_max, 0.5 * robot.limits.yaw_rate_radps_max)
    down = []
    for _ in range(60):
        drive.run(0.05, command)
        down.append(all(drive.sim.supports()))
    assert np.mean(down) > 0.95


@each_robot
def test_the_robot_first_moves_one_action_delay_after_the_command_was_sent(robot: Robot) -> None:
    drive = Drive(robot=robot)
    drive.run(0.1)
    sent_s = drive.sim.time_ns / NS
    truth = drive.run(0.3, (robot.limits.speed_mps_max, 0.0))
    first_s = truth[np.argmax(np.abs(truth[:, 1]) > 1e-4), 0] - sent_s
    assert robot.actuation.action_delay_s <= first_s <= robot.actuation.action_delay_s + 0.02


def test_extra_delay_comes_on_top() -> None:
    drive = Drive(params=dataclasses.replace(IDEAL, extra_delay_s=0.1))
    truth = drive.run(0.4, (1.0, 0.0))
    first_s = truth[np.argmax(np.abs(truth[:, 1]) > 1e-4), 0]
    assert ACTUATION.action_delay_s + 0.1 <= first_s <= ACTUATION.action_delay_s + 0.115


@each_robot
def test_after_the_last_command_the_base_ramps_to_rest_by_itself(robot: Robot) -> None:
    speed, actuation = robot.limits.speed_mps_max, robot.actuation
    drive = Drive(robot=robot)
    drive.run(2.0, (speed, 0.0))
    last_s = (drive.sim.time_ns - SEND_NS) / NS  # when the last command was sent
    truth = drive.run(2.0)
    since, speeds = truth[:, 0] - last_s, truth[:, 1]
    silent_s = actuation.command_timeout_s + actuation.action_delay_s
    ramp_s = speed / actuation.timeout_brake_mps2
    assert np.all(speeds[since < silent_s] > 0.94 * speed)
    lagging = (since > silent_s) & (since < silent_s + ramp_s)
    asked = speed - actuation.timeout_brake_mps2 * (since[lagging] - silent_s)
    behind = 0.17 * actuation.timeout_brake_mps2  # the lag of motors and tyres
    assert np.all(speeds[lagging] < asked + behind)
    assert np.all(speeds[since > silent_s + ramp_s + 0.3] < 0.02)


@each_robot
def test_braking_from_full_speed_reaches_the_deceleration_that_the_guard_counts_on(robot: Robot) -> None:
    limits, actuation = robot.limits, robot.actuation
    drive = Drive(robot=robot)
    drive.run(2.0, (limits.speed_mps_max, 0.0))
    before = drive.sim.pose
    truth = drive.run(1.2, (0.0, 0.0))
    fast, slow = (truth[np.argmax(truth[:, 1] < part * limits.speed_mps_max), 0] for part in (0.9, 0.1))
    assert 0.8 * limits.speed_mps_max / (slow - fast) >= limits.brake_mps2
    assert truth[-1, 1] < 0.02
    stop_s = actuation.action_delay_s + actuation.motor_time_constant_s
    allowed_m = limits.speed_mps_max * stop_s + limits.speed_mps_max**2 / (2.0 * limits.brake_mps2)
    assert moved_m(before, drive.sim.pose) < allowed_m


def test_a_contact_is_seen_once_it_touches_and_its_speed_is_recorded() -> None:
    post = np.array([[3.0, 0.0, 0.1]])
    params = dataclasses.replace(IDEAL, wheel_odometry=False)
    drive = Drive(World("post", post, (0.0, 0.0, 0.0), (5.0, 0.0), 5.0), params=params)
    drive.run(3.5, (1.0, 0.0))
    contacts = drive.of(Contact)
    front_m = ROBOT.footprint[:, 0].max()
    assert drive.sim.touched and contacts[0].touching
    assert drive.sim.touch_speed_mps == pytest.approx(1.0, rel=0.1)
    at = min(drive.of(Odom), key=lambda odom: abs(odom.stamp_ns - contacts[0].stamp_ns))
    assert at.x_m + front_m == pytest.approx(2.9, abs=0.05)
    assert [c.touching for c in contacts] == [i % 2 == 0 for i in range(len(contacts))]


def test_a_touch_of_a_corner_while_turning_in_place_has_the_corners_speed() -> None:
    corner_m = float(np.hypot(*ROBOT.footprint[0]))
    drive = Drive(World("post", np.array([[0.0, corner_m + 0.03, 0.05]]), (0.0, 0.0, 0.0), (5.0, 0.0), 5.0))
    drive.run(3.0, (0.0, 1.0))
    assert drive.sim.touched
    assert drive.sim.touch_speed_mps == pytest.approx(corner_m, rel=0.25)


def test_a_placed_obstacle_is_seen_touched_and_gone_when_removed() -> None:
    drive = Drive(World("bare", np.zeros((0, 3)), (0.0, 0.0, 0.0), (5.0, 0.0), 5.0))
    drive.run(0.05)
    assert not np.any(np.isfinite(drive.of(Scan)[-1].ranges_m))
    index = drive.sim.place_obstacle(1.0, 0.0)
    drive.run(0.05)
    assert np.nanmin(drive.of(Scan)[-1].ranges_m) == pytest.approx(1.0 - 0.15 - ROBOT.lidar.x_m, abs=1e-3)
    drive.run(1.5, (1.0, 0.0))
    assert drive.sim.touched
    drive.sim.remove_obstacle(index)
    drive.run(0.5)
    assert not drive.sim.touching and not np.any(np.isfinite(drive.of(Scan)[-1].ranges_m))
    for k in range(8):
        drive.sim.place_obstacle(5.0 + k, 5.0)
    with pytest.raises(ValueError, match="8 spare obstacles are in use"):
        drive.sim.place_obstacle(5.0, -5.0)
    assert drive.sim.remove_all_obstacles() == 8
    assert len(drive.sim.obstacles()) == 0


@each_robot
def test_wheel_odometry_with_noise_drifts_by_little(robot: Robot) -> None:
    drive = Drive(params=SimParams(noise=True), seed=3, robot=robot)
    length, full = 0.0, 0.5 * robot.limits.speed_mps_max
    for part, yaw_rate in [(1.0, 0.5), (0.8, -0.8), (1.5, 0.0), (0.5, 1.0), (1.0, -0.5)]:
        length += float(np.abs(drive.run(1.6, (part * full, yaw_rate))[:, 1]).sum() * 0.005)
    told, true = drive.of(Odom)[-1], drive.sim.true_odom()
    assert length > 6.0 * full
    assert math.hypot(told.x_m - true.x_m, told.y_m - true.y_m) < 0.03 * length
    white_rad = robot.imu.gyro_noise_radps * math.sqrt(8.0 / robot.odometry.rate_hz)  # after 8 s
    assert abs(wrap_angle(told.yaw_rad - true.yaw_rad)) < 0.02 + 3.0 * white_rad


def test_true_odometry_is_the_pose_in_the_frame_of_the_start() -> None:
    drive = Drive(params=dataclasses.replace(IDEAL, wheel_odometry=False))
    drive.run(1.0, (1.0, 0.3))
    assert drive.of(Odom)[-1] == drive.sim.true_odom()
    x, y, _ = drive.sim.pose
    back = drive.sim.odom_to_world(*drive.sim.world_to_odom(x, y))
    assert back == pytest.approx((x, y), abs=1e-9)
    ahead = drive.sim.base_to_world(1.0, 0.0)
    assert moved_m(drive.sim.pose, (*ahead, 0.0)) == pytest.approx(1.0)


def test_a_command_that_is_not_finite_is_ignored() -> None:
    drive = Drive()
    drive.run(0.5, (math.nan, 0.0))
    drive.run(0.5, (0.0, math.inf))
    assert abs(drive.sim.twist[0]) < 1e-3
