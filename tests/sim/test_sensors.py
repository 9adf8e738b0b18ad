"""Deviations of sensors and actuators: each has the declared size, and one switch takes all of them away."""

import dataclasses
import math

import numpy as np
import pytest

from dsac_robot.core.kinematics import wrap_angle
from dsac_robot.core.params import infos
from dsac_robot.core.robot import Robot, load_robot
from dsac_robot.core.values import NS, Command, Contact, Floats, Imu, Odom, Sample, Scan, ns
from sim.sensors import BiasWalk, InertialUnit, WheelOdometry
from sim.simulator import SimParams, Simulator
from sim.worlds import World

BURGER = load_robot("burger")
POSTS = World(
    "posts", np.array([[1.5, 0.3, 0.2], [-0.9, 1.1, 0.3], [0.3, -1.4, 0.1]]), (0.0, 0.0, 0.0), (9.0, 0.0), 9.0
)
IDEAL, NOISY = SimParams(noise=False, imu=True), SimParams(noise=True, imu=True)
# every deviation of a robot file that is an error and no property of an honest machine
WILD = {
    "actuation": {"delay_jitter_s": 0.1},
    "lidar": {"noise_std_m": 0.05, "dropout": 0.3},
    "imu": {
        "gyro_noise_radps": 0.1,
        "accel_noise_mps2": 0.5,
        "gyro_bias_radps": 0.05,
        "gyro_bias_walk": 0.02,
        "accel_bias_mps2": 0.3,
        "accel_bias_walk": 0.1,
    },
    "odometry": {"radius_error_left": 0.05, "radius_error_right": -0.02, "slip_noise": 0.05},
}
NONE = {section: dict.fromkeys(keys, 0.0) for section, keys in WILD.items()}


def changed(robot: Robot, **sections: dict[str, object]) -> Robot:
    """The robot with some values of its sections replaced."""
    parts = {name: dataclasses.replace(getattr(robot, name), **keys) for name, keys in sections.items()}
    return dataclasses.replace(robot, **parts)


def drive(robot: Robot, params: SimParams, seed: int = 0, seconds: float = 2.0) -> tuple[Simulator, list[Sample]]:
    """A drive in a curve."""
    sim, samples = Simulator(robot, POSTS, seed, params), []
    while sim.time_ns < ns(seconds):
        sim.send(Command(sim.time_ns, 0.2, 0.6))
        samples += sim.advance(sim.time_ns + ns(0.02))
    return sim, samples


def contents(samples: list[Sample]) -> list[tuple]:
    return [
        (type(s).__name__, *(v.tobytes() if isinstance(v, np.ndarray) else repr(v) for v in vars(s).values()))
        for s in samples
        if not isinstance(s, Contact)
    ]


@pytest.mark.parametrize("name", ["burger", "jackal", "rosbot_xl"])
def test_without_noise_no_declared_deviation_changes_any_sample(name: str) -> None:
    robot = load_robot(name)
    _, wild = drive(changed(robot, **WILD), IDEAL)
    _, none = drive(changed(robot, **NONE), IDEAL)
    assert contents(wild) == contents(none)


@pytest.mark.parametrize(("section", "field"), [(section, field) for section, keys in WILD.items() for field in keys])
def test_with_noise_each_declared_deviation_changes_the_samples(section: str, field: str) -> None:
    plain = changed(BURGER, **NONE)
    _, without = drive(plain, NOISY)
    _, alone = drive(changed(plain, **{section: {field: WILD[section][field]}}), NOISY)
    assert contents(alone) != contents(without)


def test_every_deviation_is_a_number_of_a_flat_section_with_a_range_that_holds_none() -> None:
    for section, keys in WILD.items():
        known = {info.name: info for info in infos(type(getattr(BURGER, section)))}
        for key in keys:
            assert known[key].type is float and known[key].low is not None and known[key].low <= 0.0 and known[key].help


def test_one_deviation_does_not_change_the_draws_of_another() -> None:
    """Ranges stay the same whatever jitter and biases there are, as long as the robot stands still."""
    robots = (changed(BURGER, **NONE), changed(BURGER, **{**NONE, "actuation": WILD["actuation"], "imu": WILD["imu"]}))
    scans = []
    for robot in robots:
        noisy = dataclasses.replace(robot, lidar=dataclasses.replace(robot.lidar, noise_std_m=0.05))
        sim = Simulator(noisy, POSTS, 5, SimParams(noise=True))
        sim.send(Command(0, 0.0, 0.0))
        scans.append([s.ranges_m for s in sim.advance(ns(1.0)) if isinstance(s, Scan)])
    for first, second in zip(*scans, strict=True):
        np.testing.assert_array_equal(np.isfinite(first), np.isfinite(second))
        seen = np.isfinite(first)
        np.testing.assert_allclose(first[seen], second[seen], atol=1e-4)


# -- actuators -------------------------------------------------------------------------------------------------------


def first_motion_s(robot: Robot, seed: int, params: SimParams = NOISY) -> float:
    """From the command to the first motion of the wheels."""
    sim = Simulator(robot, POSTS, seed, params)
    sim.advance(ns(0.1))
    sim.send(Command(sim.time_ns, 0.2, 0.0))
    while abs(sim.twist[0]) < 1e-4:
        sim.advance(sim.time_ns + ns(0.005))
    return (sim.time_ns - ns(0.1)) / NS


def test_jitter_lengthens_the_delay_by_up_to_its_size_and_by_half_of_it_on_average() -> None:
    plain = changed(BURGER, **NONE)
    jittery = changed(plain, actuation={"delay_jitter_s": 0.1})
    least = first_motion_s(plain, 0)
    delays = np.array([first_motion_s(jittery, seed) for seed in range(60)]) - least
    assert delays.min() >= 0.0 and delays.max() <= 0.105
    assert delays.mean() == pytest.approx(0.05, abs=0.015)
    assert delays.std() == pytest.approx(0.1 / math.sqrt(12.0), abs=0.01)
    assert first_motion_s(jittery, 3, IDEAL) == least


def test_jitter_keeps_the_order_of_commands() -> None:
    robot = changed(BURGER, **{**NONE, "actuation": {"delay_jitter_s": 0.2}})
    for seed in range(10):
        sim = Simulator(robot, POSTS, seed, NOISY)
        for now_ns in range(0, ns(0.5), ns(0.02)):
            sim.advance(now_ns)
            sim.send(Command(now_ns, 0.2 if now_ns < ns(0.1) else 0.0, 0.0))
        sim.advance(ns(1.2))
        assert abs(sim.twist[0]) < 1e-3  # the stop was the last word


@pytest.mark.parametrize("name", ["burger", "jackal", "rosbot_xl"])
def test_the_wheels_follow_with_a_lag_of_first_order_and_the_files_time_constant(name: str) -> None:
    robot = load_robot(name)
    slow = changed(robot, actuation={"motor_time_constant_s": 0.4})
    sim, samples = Simulator(slow, POSTS, 0, IDEAL), []
    speed = 0.4 * robot.limits.speed_mps_max
    while sim.time_ns < ns(1.2):
        sim.send(Command(sim.time_ns, speed, 0.0))
        samples += [s for s in sim.advance(sim.time_ns + ns(0.02)) if isinstance(s, Odom)]
    # an odometry message tells the wheels' mean speed over its period
    times = np.array([s.stamp_ns / NS for s in samples]) - robot.actuation.action_delay_s - 0.5 / robot.odometry.rate_hz
    late = times > 0.05
    expected = speed * (1.0 - np.exp(-times[late] / 0.4))
    np.testing.assert_allclose([s.speed_mps for s in np.array(samples)[late]], expected, atol=0.06 * speed)


def test_a_torque_limit_bounds_the_acceleration() -> None:
    robot = load_robot("jackal")
    weak = changed(robot, actuation={"wheel_torque_nm_max": 0.5})
    sim = Simulator(weak, POSTS, 0, IDEAL)
    sim.send(Command(0, 2.0, 0.0))
    sim.advance(ns(0.19))
    # four wheels' torque over the mass of the robot and what turns with the wheels
    turning = 4.0 * (robot.actuation.armature_kgm2 + 0.5 * robot.base.wheel_mass_kg * 0.098**2) / 0.098**2
    most = 4.0 * 0.5 / 0.098 / (robot.base.mass_kg + turning)
    assert 0.6 * most < sim.twist[0] / (0.19 - robot.actuation.action_delay_s) < 1.05 * most


# -- odometry --------------------------------------------------------------------------------------------------------


def roll(robot: Robot, turns: tuple[float, float], noise: bool = True, seed: int = 0, steps: int = 100) -> Odom:
    """Odometry after the left and right wheels turned so far, evenly, at 50 Hz."""
    wheels = WheelOdometry(robot, robot, [0.0, 0.0], np.random.default_rng(seed), noise)
    told = None
    for k in range(1, steps + 1):
        angles = [2.0 * math.pi * turn * k / steps for turn in turns]
        told = wheels.measure(ns(0.02 * k), angles, 0.0)
    assert told is not None
    return told


TRUE_WHEELS = changed(BURGER, **{**NONE, "odometry": {**NONE["odometry"], "heading": "wheels"}})


def test_a_straight_roll_is_as_long_as_the_wheels_turned_to_one_tick() -> None:
    tick_m = 2.0 * math.pi * 0.033 / BURGER.odometry.ticks_per_turn
    assert roll(TRUE_WHEELS, (3.0, 3.0)).x_m == pytest.approx(6.0 * math.pi * 0.033, abs=tick_m)


def test_wheels_that_turn_against_each_other_turn_the_heading_by_the_effective_track() -> None:
    told = roll(TRUE_WHEELS, (-0.5, 0.5))
    assert told.yaw_rad == pytest.approx(2.0 * math.pi * 0.033 * 1.0 / 0.16, abs=1e-3)
    assert math.hypot(told.x_m, told.y_m) < 1e-3


def test_coarse_encoders_round_to_whole_ticks() -> None:
    coarse = changed(TRUE_WHEELS, odometry={"ticks_per_turn": 8})
    tick_m = 2.0 * math.pi * 0.033 / 8
    assert roll(coarse, (0.3, 0.3), steps=7).x_m == pytest.approx(2.0 * tick_m)


def test_unequal_radius_errors_bend_a_straight_line_as_the_difference_over_the_track_has_it() -> None:
    wrong = changed(TRUE_WHEELS, odometry={"radius_error_left": 0.02, "radius_error_right": -0.01})
    told, length_m = roll(wrong, (5.0, 5.0)), 10.0 * math.pi * 0.033
    assert told.yaw_rad == pytest.approx(-0.03 * length_m / 0.16, abs=2e-3)
    assert roll(wrong, (5.0, 5.0), noise=False).yaw_rad == pytest.approx(0.0, abs=1e-9)


def test_slip_noise_grows_with_the_root_of_the_distance() -> None:
    slippery = changed(TRUE_WHEELS, odometry={"slip_noise": 0.02})
    metre = 1.0 / (2.0 * math.pi * 0.033)  # in turns
    for turns, spread in ((metre, 0.02), (4.0 * metre, 0.04)):
        lengths = [roll(slippery, (turns, turns), seed=seed).x_m for seed in range(300)]
        assert np.std(lengths) == pytest.approx(spread, rel=0.15)
        assert np.mean(lengths) == pytest.approx(turns / metre, abs=4.0 * spread / math.sqrt(300))


@pytest.mark.parametrize("heading", ["gyro", "wheels"])
def test_heading_from_the_wheels_of_a_slipping_base_drifts_more_than_from_the_gyro(heading: str) -> None:
    robot = changed(load_robot("rosbot_xl"), **{**NONE, "odometry": {**NONE["odometry"], "heading": heading}})
    sim, samples = drive(robot, NOISY, seconds=4.0)
    told = [s for s in samples if isinstance(s, Odom)][-1]
    off = abs(wrap_angle(told.yaw_rad - sim.true_odom().yaw_rad))
    assert off < 0.02 if heading == "gyro" else 0.1 < off < 0.6


def test_a_gyro_bias_turns_the_odometry_by_bias_times_time() -> None:
    robot = changed(BURGER, **{**NONE, "imu": {**NONE["imu"], "gyro_bias_radps": 0.05}})
    found = []
    for seed in range(40):
        sim = Simulator(robot, POSTS, seed, NOISY)
        samples = sim.advance(ns(2.0))
        told = [s for s in samples if isinstance(s, Odom)][-1].yaw_rad
        gyro = [s.yaw_rate_radps for s in samples if isinstance(s, Imu)][-1]
        assert told == pytest.approx(2.0 * gyro, abs=0.01)  # the IMU and the odometry have one gyro
        found.append(gyro)
    assert np.std(found) == pytest.approx(0.05, rel=0.35)


# -- IMU -------------------------------------------------------------------------------------------------------------


def at_rest(robot: Robot, seconds: float, seed: int, noise: bool = True) -> Floats:
    """Yaw rate and accelerations of a robot that stands. # (T, 3)"""
    unit = InertialUnit(robot, np.random.default_rng([seed, 0]), np.random.default_rng([seed, 2]), noise)
    period_s = 1.0 / robot.imu.rate_hz
    rows = []
    for k in range(round(seconds / period_s)):
        told = unit.measure(ns(k * period_s), np.zeros(3), 0.3, 0.0)
        rows.append((told.yaw_rate_radps, told.accel_x_mps2, told.accel_y_mps2))
    return np.array(rows)


def test_white_noise_of_the_imu_has_the_declared_spread_and_no_memory() -> None:
    robot = changed(BURGER, **{**NONE, "imu": {**NONE["imu"], "gyro_noise_radps": 0.01, "accel_noise_mps2": 0.2}})
    told = at_rest(robot, 20.0, 0)
    np.testing.assert_allclose(told.std(axis=0), [0.01, 0.2, 0.2], rtol=0.05)
    for channel in told.T:
        assert abs(np.corrcoef(channel[1:], channel[:-1])[0, 1]) < 0.05


def test_the_bias_of_the_imu_starts_with_its_spread_and_walks_with_the_root_of_time() -> None:
    imu = {
        **NONE["imu"],
        "gyro_bias_radps": 0.01,
        "gyro_bias_walk": 0.01,
        "accel_bias_mps2": 0.3,
        "accel_bias_walk": 0.2,
    }
    runs = np.array([at_rest(changed(BURGER, **{**NONE, "imu": imu}), 4.0, seed)[[0, -1]] for seed in range(80)])
    np.testing.assert_allclose(runs[:, 0].std(axis=0), [0.01, 0.3, 0.3], rtol=0.3)
    np.testing.assert_allclose((runs[:, 1] - runs[:, 0]).std(axis=0), [0.02, 0.4, 0.4], rtol=0.3)


def test_a_walk_does_not_depend_on_how_often_it_is_asked_within_its_statistics() -> None:
    def spread(asks: int) -> float:
        ends = []
        for seed in range(400):
            walk = BiasWalk(np.zeros(1), np.array([0.1]), np.random.default_rng(seed))
            for k in range(1, asks + 1):
                end = walk.at(ns(4.0 * k / asks))
            ends.append(float(end[0]))
        return float(np.std(ends))

    assert spread(1) == pytest.approx(0.2, rel=0.12)
    assert spread(16) == pytest.approx(0.2, rel=0.12)


def test_without_noise_the_imu_tells_the_true_yaw_rate_and_the_change_of_speed() -> None:
    unit = InertialUnit(BURGER, np.random.default_rng(0), np.random.default_rng(1), False)
    unit.measure(0, np.zeros(3), 0.5, 0.0)
    forward = np.array([math.cos(0.5), math.sin(0.5), 0.0])
    told = unit.measure(ns(0.005), 0.01 * forward, 0.5, 0.7)
    assert told.yaw_rate_radps == 0.7
    assert told.accel_x_mps2 == pytest.approx(0.01 * 200.0) and told.accel_y_mps2 == pytest.approx(0.0, abs=1e-9)


# -- lidar -----------------------------------------------------------------------------------------------------------


def test_a_scan_is_cast_from_where_the_robot_is_at_its_stamp() -> None:
    robot = changed(BURGER, **NONE)
    sim = Simulator(robot, World("post", np.array([[2.0, 0.0, 0.2]]), (0.0, 0.0, 0.0), (9.0, 0.0), 9.0), 0, IDEAL)
    seen = 0
    for now_ns in range(0, ns(3.0), ns(0.005)):
        for sample in sim.advance(now_ns):
            if isinstance(sample, Scan):
                assert sample.stamp_ns == sim.time_ns
                ahead = 2.0 - 0.2 - (sim.pose[0] + robot.lidar.x_m * math.cos(sim.pose[2]))
                assert np.nanmin(sample.ranges_m) == pytest.approx(ahead, abs=1e-3)
                seen += 1
        sim.send(Command(now_ns, 0.22, 0.0))
    assert seen == 15 and sim.pose[0] > 0.4


def test_beams_that_drop_out_are_nan_and_as_many_as_declared() -> None:
    robot = changed(BURGER, **{**NONE, "lidar": {"noise_std_m": 0.0, "dropout": 0.1}})
    scans = np.array([s.ranges_m for s in drive(robot, NOISY, seconds=8.0)[1] if isinstance(s, Scan)])
    assert np.isnan(scans).mean() == pytest.approx(0.1, abs=0.01)
    lost = np.isnan(scans)
    assert np.any(lost[1:] != lost[:-1])  # not always the same beams
