"""Identification: values put into a recording come out of it, within intervals that mean what they say."""

import dataclasses
import math

import numpy as np
import pytest

from dsac_robot.core.robot import Robot, load_robot
from dsac_robot.core.values import Command, Imu, Odom, Scan, ns
from dsac_robot.data.identify import Finding, Recording, identify, read_recording
from dsac_robot.data.identify_motion import Channel, NotExcitedError, fit_lag, servo_lag_s, usable_intervals
from sim.lidar import cast, measure
from tests.data.conftest import Written

SHIPPED = load_robot("jackal")
ROBOT = dataclasses.replace(  # the machine of these tests has no servo beside its lag
    SHIPPED, actuation=dataclasses.replace(SHIPPED.actuation, servo_droop_radps=0.01)
)
DELAY, LAG = "actuation.action_delay_s", "actuation.motor_time_constant_s"
RADIUS, TRACK = "base.wheel_radius_m", "base.track_multiplier"
COMMAND_S, FINE_S = 0.02, 0.001
ROOM = np.array(
    [(x, y, 0.03) for x in np.arange(-6.0, 6.0, 0.05) for y in (-4.5, 4.5)]
    + [(x, y, 0.03) for x in (-6.0, 6.0) for y in np.arange(-4.5, 4.5, 0.05)]
    + [(-4.5, -3.0, 0.3), (-4.0, 3.5, 0.2), (4.2, 3.0, 0.4), (5.0, -2.0, 0.15), (0.5, -4.0, 0.25), (1.5, 4.0, 0.1)]
)
CORRIDOR = np.array([(x, y, 0.01) for x in np.arange(-40.0, 80.0, 0.015) for y in (-1.0, 1.0)])


@dataclasses.dataclass(frozen=True)
class Truth:
    """The machine as it is: a kinematic base without slip."""

    delay_s: float = 0.07
    lag_s: float = 0.11
    radius_factor: float = 0.96
    track_factor: float = 1.07  # over what the controller counts with
    gyro_bias_radps: float = 0.004
    gyro_noise_radps: float = 2e-3
    imu: bool = True
    heading_of_wheels: bool = False  # odometry's heading, from the nominal track


def steps(seconds: float, seed: int = 0, speed: float = 0.6, yaw_rate: float = 1.2) -> np.ndarray:
    """Commands every COMMAND_S: random steps, half of them straight, as a guard ramps them. # (N, 2)"""
    rng = np.random.default_rng(seed)
    asked: list[tuple[float, float]] = []
    while len(asked) * COMMAND_S < seconds:
        turn = rng.uniform(-yaw_rate, yaw_rate) if rng.random() < 0.5 else 0.0
        asked += [(rng.uniform(-speed, speed), turn)] * int(rng.integers(25, 80))
    sent = [(0.0, 0.0)]
    for now in asked:
        change = np.clip(np.subtract(now, sent[-1]), (-0.08, -0.24), (0.08, 0.24))
        sent.append(tuple(np.add(sent[-1], change)))
    return np.array(sent[: int(seconds / COMMAND_S)])


def track_of(gone: np.ndarray, yaw: np.ndarray) -> np.ndarray:
    """Positions after so many metres at these headings. # (N,), (N,) -> (N, 2)"""
    middle = 0.5 * (yaw[1:] + yaw[:-1])
    steps_m = np.diff(gone)[:, None] * np.stack([np.cos(middle), np.sin(middle)], axis=1)
    return np.concatenate([[[0.0, 0.0]], np.cumsum(steps_m, axis=0)])


def record(sent: np.ndarray, truth: Truth = Truth(), seed: int = 0, pillars: np.ndarray | None = None) -> Recording:
    """What a bag of these commands would hold, integrated at 1 ms: odometry at 50 Hz, gyro at 100, scans at 10."""
    rng = np.random.default_rng(seed)
    count = round(len(sent) * COMMAND_S / FINE_S)
    held = np.clip(((np.arange(count) * FINE_S - truth.delay_s) / COMMAND_S + 1e-9).astype(int), 0, None)
    asked = np.where((np.arange(count) * FINE_S >= truth.delay_s)[:, None], sent[held], 0.0)
    rates = np.zeros((count + 1, 2))  # of the wheels, as the controller believes
    for k in range(count):
        rates[k + 1] = rates[k] + (asked[k] - rates[k]) * -math.expm1(-FINE_S / truth.lag_s)
    mean = 0.5 * (rates[1:] + rates[:-1]) * FINE_S
    gone = np.concatenate([[0.0], np.cumsum(mean[:, 0])])
    yaw_rates = rates[:, 1] * truth.radius_factor / truth.track_factor
    yaw = np.concatenate([[0.0], np.cumsum(0.5 * (yaw_rates[1:] + yaw_rates[:-1]) * FINE_S)])
    believed = yaw
    if truth.heading_of_wheels:
        believed = np.concatenate([[0.0], np.cumsum(mean[:, 1])])
    xy, true_xy = track_of(gone, believed), truth.radius_factor * track_of(gone, yaw)
    odoms, imus, scans = [], [], []
    speed = np.diff(gone[::20]) / 0.02
    noisy = xy + rng.normal(0.0, 1e-4, xy.shape)
    for k in range(20, count + 1, 20):
        at = k * FINE_S
        odoms.append(
            Odom.from_yaw(
                ns(at), *map(float, noisy[k]), float(believed[k]), float(speed[k // 20 - 1]), float(yaw_rates[k])
            )
        )
        if truth.imu:
            for j in (k - 10, k):
                measured = yaw_rates[j] + truth.gyro_bias_radps + rng.normal(0.0, truth.gyro_noise_radps)
                imus.append(Imu(ns(j * FINE_S), float(measured), 0.0, 0.0))
        if pillars is not None and k % 100 == 0:
            pose = (*true_xy[k], yaw[k])
            ranges = measure(ROBOT.lidar, cast(ROBOT.lidar, pose, pillars), rng)
            scans.append(Scan(ns(at), ranges, ROBOT.lidar.angle_min_rad, ROBOT.lidar.angle_increment_rad))
    commands = tuple(Command(ns(k * COMMAND_S), float(u), float(w)) for k, (u, w) in enumerate(sent))
    return Recording(commands, tuple(odoms), tuple(imus), tuple(scans))


def found(recording: Recording, robot: Robot = ROBOT, distance_m: float | None = None) -> dict[str, Finding]:
    return {finding.key: finding for finding in identify(recording, robot, distance_m).findings}


def holds(finding: Finding, true: float) -> bool:
    """Whether the truth is in the interval."""
    assert finding.found is not None, finding.note
    return finding.found.low <= true <= finding.found.high


def straight(seconds: float, speed: float = 0.5) -> np.ndarray:
    """Stop and go, straight ahead."""
    sent = np.zeros((int(seconds / COMMAND_S), 2))
    sent[:, 0] = speed * ((np.arange(len(sent)) // 60) % 2)
    sent[-100:] = 0.0
    return sent


@pytest.mark.parametrize(
    "truth", [Truth(), Truth(0.02, 0.03, 1.02, 0.95, 0.0), Truth(0.2, 0.3, 1.0, 1.0, -0.01)], ids=["a", "b", "c"]
)
def test_delay_lag_radius_and_track_of_a_drive_are_recovered_within_their_intervals(truth: Truth) -> None:
    findings = found(record(steps(60.0), truth, pillars=ROOM))
    assert holds(findings[DELAY], truth.delay_s)
    assert holds(findings[LAG], truth.lag_s)
    assert holds(findings[RADIUS], ROBOT.base.wheel_radius_m * truth.radius_factor)
    assert holds(findings[TRACK], ROBOT.base.track_multiplier * truth.track_factor)
    for finding in (findings[key] for key in (DELAY, LAG, RADIUS, TRACK)):
        assert finding.found is not None
        assert finding.found.half_width < 0.02 * max(finding.found.value, 0.5)


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    truth = Truth(0.07, 0.11, 1.0, 1.07, gyro_noise_radps=0.03)
    widths: list[float] = []
    hits, count = np.zeros(3), 12
    for seed in range(count):
        recording = record(steps(30.0, seed), truth, seed)
        yaw = identify(recording, ROBOT).yaw
        assert yaw is not None
        values = (truth.delay_s, truth.lag_s, 1.0 / truth.track_factor)
        estimates = (yaw.delay_s, yaw.lag_s, yaw.gain)  # without the floors that real machines need
        hits += [e.low <= v <= e.high for e, v in zip(estimates, values, strict=True)]
        widths += [e.half_width / abs(e.value - v) for e, v in zip(estimates, values, strict=True)]
    assert np.all(hits >= 9), hits  # of 12 that each hold with 95 %, fewer than 9 have a chance of 1 in 4000
    assert np.median(widths) < 12.0, "a 95 % interval is some 3 times as wide as the typical error"


def test_heading_of_odometry_serves_where_there_is_no_imu() -> None:
    truth = Truth(imu=False)
    track = found(record(steps(40.0), truth))[TRACK]
    assert "gyro" in track.note
    # without a wheel radius the file's is taken: a smaller wheel looks like a wider track
    assert holds(track, ROBOT.base.track_multiplier * truth.track_factor / truth.radius_factor)


def test_scans_put_a_heading_right_that_comes_from_the_wheels() -> None:
    truth = Truth(imu=False, heading_of_wheels=True)
    recording = record(steps(60.0), truth, pillars=ROOM)
    true = ROBOT.base.track_multiplier * truth.track_factor
    track = found(recording)[TRACK]
    assert holds(track, true)
    assert "as scans say" in track.note
    blind = found(dataclasses.replace(recording, scans=()))[TRACK]  # wheels against themselves: the file's value
    assert blind.found is not None
    assert blind.found.value == pytest.approx(ROBOT.base.track_multiplier, rel=0.01)
    assert "taken to be a gyro's" in blind.note


def test_a_straight_drive_tells_of_motors_and_not_of_turning() -> None:
    findings = found(record(straight(40.0)))
    assert holds(findings[DELAY], 0.07)
    assert findings[TRACK].found is None
    assert "steps of the yaw rate command" in findings[TRACK].note


def test_turning_in_place_tells_of_motors_and_not_of_wheels() -> None:
    findings = found(record(steps(40.0, speed=0.0), pillars=ROOM), load_robot("burger"))
    assert holds(findings[LAG], 0.11)
    assert "from turning" in findings[LAG].note
    assert findings[RADIUS].found is None
    assert "straight" in findings[RADIUS].note


def test_turning_in_place_does_not_tell_of_motors_where_tyres_slip() -> None:
    findings = found(record(steps(40.0, speed=0.0)))
    for key in (DELAY, LAG):
        assert findings[key].found is None
        assert "slip" in findings[key].note and "steps of the speed command" in findings[key].note


def test_the_servo_of_the_file_is_not_taken_for_delay() -> None:
    stiff = dataclasses.replace(ROBOT, actuation=dataclasses.replace(ROBOT.actuation, servo_droop_radps=0.01))
    soft = dataclasses.replace(ROBOT, actuation=dataclasses.replace(ROBOT.actuation, servo_droop_radps=3.0))
    recording = record(steps(40.0))  # as one lag makes it
    delays, lags = [], []
    for robot in (stiff, soft):
        findings = found(recording, robot)
        delay, lag = findings[DELAY].found, findings[LAG].found
        assert delay is not None and lag is not None
        delays.append(delay.value)
        lags.append(lag.value)
    assert delays[0] == pytest.approx(0.07, abs=0.001)
    assert delays[0] - delays[1] > 0.02
    assert delays[0] + lags[0] - delays[1] - lags[1] == pytest.approx(servo_lag_s(soft), abs=0.004)


def test_half_of_the_jitter_of_the_file_is_not_taken_for_delay() -> None:
    shaky = dataclasses.replace(ROBOT, actuation=dataclasses.replace(ROBOT.actuation, delay_jitter_s=0.04))
    recording = record(steps(40.0))
    plain, beside = (found(recording, robot)[DELAY] for robot in (ROBOT, shaky))
    assert plain.found is not None and beside.found is not None
    assert plain.found.value - beside.found.value == pytest.approx(0.02, abs=1e-9)
    assert "servo" in plain.note and "jitter" in beside.note


@pytest.mark.parametrize("servo_s", [0.02, 0.11, 0.3])
def test_two_lags_in_a_row_give_their_closed_form(servo_s: float) -> None:
    times = np.arange(0.0, 40.0, 0.02)
    sent = np.where(times % 4.0 < 2.0, 1.0, 0.0)
    first, second, position = 0.0, 0.0, [0.0]
    for k in range(1, len(times)):
        for _ in range(40):
            before = second
            first += (sent[k - 1] - first) * -math.expm1(-0.0005 / 0.11)
            second += (first - second) * -math.expm1(-0.0005 / servo_s)
            position.append(position[-1] + 0.5 * (before + second) * 0.0005)
    moved = np.diff(np.array(position)[::40])
    usable = usable_intervals(times, times, 0.2)
    fit = fit_lag(Channel("speed", "m/s", times, sent, times, moved, usable, servo_s=servo_s))
    assert fit.delay_s.value == pytest.approx(0.0, abs=1e-3)
    assert fit.lag_s.value == pytest.approx(0.11, abs=0.004)
    assert fit.gain.value == pytest.approx(1.0, abs=3e-3)


def test_standing_still_tells_nothing() -> None:
    findings = found(record(np.zeros((1500, 2)), pillars=ROOM))
    assert [finding.found for finding in findings.values()] == [None] * 5
    assert all(finding.note for finding in findings.values())


def test_commands_and_odometry_alone_do_not_tell_the_wheel_radius() -> None:
    assert found(record(steps(40.0)))[RADIUS].found is None


def test_a_bare_corridor_does_not_tell_the_wheel_radius() -> None:
    radius = found(record(straight(40.0), pillars=CORRIDOR))[RADIUS]
    assert radius.found is None
    assert "--distance" in radius.note


def test_a_distance_by_tape_tells_the_wheel_radius() -> None:
    recording = record(straight(40.0))
    odometer_m = recording.odoms[-1].x_m
    radius = found(recording, distance_m=0.96 * odometer_m)[RADIUS]
    assert holds(radius, 0.96 * ROBOT.base.wheel_radius_m)
    with pytest.raises(NotExcitedError, match="one straight line"):
        identify(record(steps(40.0)), ROBOT, 5.0)


def test_a_short_drive_is_refused_with_the_time_it_takes() -> None:
    assert "16 s" in found(record(steps(12.0)))[DELAY].note


def test_a_base_that_does_not_follow_is_refused() -> None:
    recording = record(steps(40.0))
    other = dataclasses.replace(recording, sent=record(steps(40.0, seed=9)).sent)
    assert "does not follow" in found(other)[DELAY].note


def test_a_silence_in_which_the_base_stops_on_its_own_is_left_out() -> None:
    sent = steps(60.0)
    sent[1500:1600] = 0.0  # the base's own stop
    whole = record(sent)
    silent = dataclasses.replace(whole, sent=whole.sent[:1500] + whole.sent[1600:])
    findings = found(silent)
    assert holds(findings[DELAY], 0.07)
    assert holds(findings[LAG], 0.11)


def test_odometry_that_is_set_anew_does_not_spoil_the_fit() -> None:
    recording = record(steps(40.0))
    moved = tuple(
        dataclasses.replace(odom, x_m=odom.x_m + 5.0) if i > 1000 else odom for i, odom in enumerate(recording.odoms)
    )
    assert holds(found(dataclasses.replace(recording, odoms=moved))[LAG], 0.11)


def test_a_bag_is_read_in_the_order_of_its_stamps_without_what_is_not_finite(bag_of: Written) -> None:
    whole = record(steps(4.0))
    broken = dataclasses.replace(whole.odoms[7], x_m=math.nan)
    rows = [("odom", odom, odom.stamp_ns) for odom in reversed(whole.odoms)]
    rows += [("cmd_vel", sent, sent.stamp_ns) for sent in whole.sent] + [
        ("imu", imu, imu.stamp_ns) for imu in whole.imus
    ]
    read = read_recording(bag_of([*rows, ("odom", broken, 0), ("cmd_vel", Command(5, math.inf, 0.0), 5)]))
    assert read.odoms == whole.odoms
    assert read.sent == whole.sent
    assert read.imus == whole.imus


def test_no_commands_are_refused_with_what_to_record() -> None:
    with pytest.raises(NotExcitedError, match="ros2 bag record"):
        identify(dataclasses.replace(record(steps(2.0)), sent=()), ROBOT)


def test_a_step_gives_the_closed_form_of_a_first_order_lag() -> None:
    times = np.arange(0.0, 60.0, 0.02)
    sent = np.where(times % 4.0 < 2.0, 1.0, 0.0)
    late = times - 0.1
    position = np.zeros_like(times)
    rate, now = 0.0, 0.0
    for k in range(1, len(times)):  # exact between the grid's points, on which every change falls
        held = 1.0 if late[k - 1] >= -1e-9 and (late[k - 1] + 1e-9) % 4.0 < 2.0 else 0.0
        keep = math.exp(-0.02 / 0.2)
        now += held * 0.02 + (rate - held) * 0.2 * (1.0 - keep)
        rate = held + (rate - held) * keep
        position[k] = now
    moved = np.diff(position)
    channel = Channel("speed", "m/s", times, sent, times, moved, usable_intervals(times, times, 0.2))
    fit = fit_lag(channel)
    assert fit.delay_s.value == pytest.approx(0.1, abs=1e-4)
    assert fit.lag_s.value == pytest.approx(0.2, abs=1e-4)
    assert fit.gain.value == pytest.approx(1.0, abs=1e-4)
    assert fit.explained > 0.9999
