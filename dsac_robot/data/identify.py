"""What a recorded drive says of the robot's description: delay, motor lag, wheel radius, effective track, brake.

What can be known from what:

- delay and motor lag: from cmd_vel against odometry's speed, beside the wheel servo that the file describes (another
  lag, which a fit cannot tell from delay) and the mean of its link's jitter. Turning tells less: tyres answer, too.
- wheel radius: never from commands and odometry alone, since the base drives and measures by the same assumed radius.
  From lidar scans of straight stretches (as true as the lidar's own scale), or from a distance measured by tape.
- effective track: from the commanded yaw rate against the gyro's (imu topic). Without it, against odometry's heading,
  put right by what the scans say of it, for a heading that comes from the wheels errs as the track does; without scans
  either, the heading is believed and the note says so. A worn wheel slows turns as a wider track does: the wheel radius
  found, or else the file's, is taken into account.
- brake: from the way of hard stops (identify_brake.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dsac_robot.core.robot import Robot
from dsac_robot.core.values import NS, Command, Floats, Imu, Odom, Scan
from dsac_robot.data.bag_reader import BagReader
from dsac_robot.data.identify_brake import brake, reaction_s, stops_of
from dsac_robot.data.identify_motion import (
    Channel,
    Estimate,
    LagFit,
    NotExcitedError,
    fit_lag,
    servo_lag_s,
    usable_intervals,
)
from dsac_robot.data.scan_distance import ScanDistances, scan_distances

TIME_FLOOR_S = 0.005  # a base's own control period is not modelled: no time is known better than this
TURNING_FLOOR_S = 0.02  # nor, from turning, better than this: how tyres answer is not modelled
SKID_FLOOR = 0.015  # a skid-steer base has no one effective track: it changes so much with how it is driven
SINKS = 0.015  # a tyre under load rolls as one with a radius smaller by up to this part
FACTOR_FLOOR = 0.002  # nor any length ratio better than this
TIME_WIDEST_S, FACTOR_WIDEST = 0.03, 0.03  # half an interval above which a parameter counts as not identified
ROLLING = f"as the wheel rolls under load; free of it up to {SINKS:.1%} more"
TAPE_M = 0.01  # what a distance measured by tape may be off
ONE = Estimate(1.0, 1.0, 1.0)
STRAIGHT_MIN = 0.98  # of the odometer's path, as the crow flies, where a distance was measured


@dataclass(frozen=True)
class Recording:
    """What was read of a bag, each ordered by stamp."""

    sent: tuple[Command, ...]
    odoms: tuple[Odom, ...]
    imus: tuple[Imu, ...] = ()
    scans: tuple[Scan, ...] = ()


@dataclass(frozen=True)
class Finding:
    """One parameter of the robot file: its value there, and what the recording says. ``found`` None: ``note`` why."""

    key: str
    unit: str
    stated: float
    found: Estimate | None
    note: str = ""


@dataclass(frozen=True)
class Identification:
    """All that a recording says. What could not be fitted is None."""

    findings: tuple[Finding, ...]
    speed: LagFit | None
    yaw: LagFit | None
    scans: ScanDistances | None
    reaction_s: float | None = None  # what the guard's parameter of that name must cover, by this recording


def read_recording(path: Path, namespace: str | None = None) -> Recording:
    """The commands sent, odometry, gyro and scans of a bag; what is not finite is left out. Raises BagError."""
    kept: dict[str, list[Command | Odom | Imu | Scan]] = {"cmd_vel": [], "odom": [], "imu": [], "scan": []}
    with BagReader(path, namespace) as reader:
        for logged in reader.values():
            if logged.topic in kept and isinstance(logged.value, Command | Odom | Imu | Scan):
                kept[logged.topic].append(logged.value)
    rows = {topic: sorted(values, key=lambda value: value.stamp_ns) for topic, values in kept.items()}
    return Recording(
        tuple(v for v in rows["cmd_vel"] if isinstance(v, Command) and v.finite),
        tuple(v for v in rows["odom"] if isinstance(v, Odom) and math.isfinite(v.x_m + v.y_m + v.qz + v.qw)),
        tuple(v for v in rows["imu"] if isinstance(v, Imu) and math.isfinite(v.yaw_rate_radps)),
        tuple(v for v in rows["scan"] if isinstance(v, Scan)),
    )


def identify(recording: Recording, robot: Robot, distance_m: float | None = None) -> Identification:
    """What ``recording`` says of ``robot``'s parameters. ``distance_m``: how far the whole drive, one line, truly went.

    Raises NotExcitedError where it holds no commands or no odometry.
    """
    if len(recording.sent) < 2 or len(recording.odoms) < 2:
        raise NotExcitedError(
            f"{len(recording.sent)} messages of cmd_vel and {len(recording.odoms)} of odom: record both "
            "(ros2 bag record /cmd_vel /odom /imu /scan), and see dsac-robot bag info"
        )
    speed, no_speed = _fitted(_speed_channel(recording, robot))
    yaw, no_yaw = _fitted(_yaw_channel(recording, robot))
    scans, radius, radius_note = _radius(recording, robot, distance_m)
    base, actuation = robot.base, robot.actuation
    delay, lag, note = _times(robot, speed, yaw, no_speed)
    servo_ms, jitter_s = 1e3 * servo_lag_s(robot), 0.5 * actuation.delay_jitter_s
    beside = f"transport included; beside the file's servo of {servo_ms:.2g} ms"
    beside += f" and its jitter, {1e3 * jitter_s:.2g} ms in the mean" if jitter_s > 0.0 else ""
    delay_note = "; ".join(part for part in (beside, note) if part) if delay else note
    stated_radius = base.wheel_radius_m
    found_radius = None if radius is None else _scaled(_unloaded(radius), stated_radius)
    heading, heading_note = _heading(recording, scans)
    track, track_note = _track(robot, speed, yaw, radius, heading)
    findings = (
        _judged("actuation.action_delay_s", "s", actuation.action_delay_s, delay, TIME_WIDEST_S, delay_note),
        _judged("actuation.motor_time_constant_s", "s", actuation.motor_time_constant_s, lag, TIME_WIDEST_S, note),
        _judged("base.wheel_radius_m", "m", stated_radius, found_radius, FACTOR_WIDEST * stated_radius, radius_note),
        _judged(
            "base.track_multiplier",
            "",
            base.track_multiplier,
            track,
            FACTOR_WIDEST * base.track_multiplier,
            heading_note + track_note if track else no_yaw,
        ),
        _brake(recording, robot),
    )
    # All of the way from command to motion that is no motor lag, the worst of the jitter too.
    whole_s = delay.high + actuation.delay_jitter_s + servo_lag_s(robot) if delay else None
    return Identification(findings, speed, yaw, scans, None if whole_s is None else reaction_s(recording.sent, whole_s))


def _times(
    robot: Robot, speed: LagFit | None, yaw: LagFit | None, no_speed: str
) -> tuple[Estimate | None, Estimate | None, str]:
    """Delay and motor lag, and a note on them or on why there are none."""
    timed, floor_s, note = speed, TIME_FLOOR_S, ""
    if timed is None:
        if yaw is None or robot.base.drive == "skid_steer":
            slips = "; turning does not tell, where a skid-steer base's tyres slip" if yaw else ""
            return None, None, no_speed + slips
        timed, floor_s, note = yaw, TURNING_FLOOR_S, f"from turning: {no_speed}"
    return _time(timed.delay_s, floor_s, 0.5 * robot.actuation.delay_jitter_s), _time(timed.lag_s, floor_s), note


def _brake(recording: Recording, robot: Robot) -> Finding:
    """How hard the robot brakes."""
    stated = robot.limits.brake_mps2
    try:
        found, note = brake(stops_of(recording.sent, recording.odoms, robot.limits), robot.limits)
    except NotExcitedError as error:
        return Finding("limits.brake_mps2", "m/s^2", stated, None, str(error))
    return Finding("limits.brake_mps2", "m/s^2", stated, found, note)


def _judged(key: str, unit: str, stated: float, found: Estimate | None, widest: float, note: str) -> Finding:
    """The finding, or none where its interval is too wide to be of use."""
    if found is not None and found.half_width > widest:
        wide = f"known only to {found.value:.4g} [{found.low:.4g}, {found.high:.4g}] {unit}".rstrip()
        more = "a longer drive with more steps would tell" + (f"; {note}" if note else "")
        return Finding(key, unit, stated, None, f"{wide}: {more}")
    return Finding(key, unit, stated, found, note)


def _fitted(channel: Channel) -> tuple[LagFit | None, str]:
    try:
        return fit_lag(channel), ""
    except NotExcitedError as error:
        return None, str(error)


def _speed_channel(recording: Recording, robot: Robot) -> Channel:
    times, odoms = _seconds(recording.odoms, recording.sent), recording.odoms
    x, y = np.array([odom.x_m for odom in odoms]), np.array([odom.y_m for odom in odoms])
    yaw = np.unwrap([odom.yaw_rad for odom in odoms])
    middle = 0.5 * (yaw[1:] + yaw[:-1])
    moved = np.diff(x) * np.cos(middle) + np.diff(y) * np.sin(middle)
    fastest = 2.0 * max(robot.limits.speed_mps_max, max(abs(c.speed_mps) for c in recording.sent))
    sent = np.array([command.speed_mps for command in recording.sent])
    return _channel("speed", "m/s", recording, robot, sent, times, moved, fastest, False)


def _yaw_channel(recording: Recording, robot: Robot) -> Channel:
    if len(recording.imus) > 1:
        times = _seconds(recording.imus, recording.sent)
        rates = np.array([imu.yaw_rate_radps for imu in recording.imus])
        moved = 0.5 * (rates[1:] + rates[:-1]) * np.diff(times)
    else:
        times = _seconds(recording.odoms, recording.sent)
        moved = np.diff(np.unwrap([odom.yaw_rad for odom in recording.odoms]))
    fastest = 2.0 * max(robot.limits.yaw_rate_radps_max, max(abs(c.yaw_rate_radps) for c in recording.sent))
    sent = np.array([command.yaw_rate_radps for command in recording.sent])
    return _channel("yaw rate", "rad/s", recording, robot, sent, times, moved, fastest, True)


def _channel(
    name: str,
    unit: str,
    recording: Recording,
    robot: Robot,
    sent: Floats,
    times: Floats,
    moved: Floats,
    fastest: float,
    drifts: bool,
) -> Channel:
    """The channel, intervals faster than ``fastest`` (odometry was set anew) left out."""
    sent_s = _seconds(recording.sent, recording.sent)
    usable = usable_intervals(sent_s, times, robot.actuation.command_timeout_s)
    usable &= np.abs(moved) <= fastest * np.maximum(np.diff(times), 1e-9)
    return Channel(name, unit, sent_s, sent, times, moved, usable, drifts, servo_lag_s(robot))


def _seconds(samples: Sequence[Command | Odom | Imu], since: Sequence[Command]) -> Floats:
    """Stamps in seconds since the first command. # (N,)"""
    start = since[0].stamp_ns
    return np.array([(sample.stamp_ns - start) / NS for sample in samples], np.float64)


def _radius(
    recording: Recording, robot: Robot, distance_m: float | None
) -> tuple[ScanDistances | None, Estimate | None, str]:
    """What the scans say, true over odometer distance, and a note on it or on why there is none."""
    if distance_m is not None:
        return None, _by_tape(recording.odoms, distance_m), f"from {distance_m:g} m measured by tape, {ROLLING}"
    try:
        scans = scan_distances(recording.scans, recording.odoms, robot.lidar)
    except NotExcitedError as error:
        return None, None, str(error)
    return (
        scans,
        _widened(scans.factor),
        f"from {len(scans.scans_m)} stretches of {float(scans.odometer_m.sum()):.1f} m, {ROLLING}",
    )


def _by_tape(odoms: Sequence[Odom], distance_m: float) -> Estimate:
    x, y = np.array([odom.x_m for odom in odoms]), np.array([odom.y_m for odom in odoms])
    path = float(np.hypot(np.diff(x), np.diff(y)).sum())
    net = math.hypot(float(x[-1] - x[0]), float(y[-1] - y[0]))
    if net < STRAIGHT_MIN * path or net < 1.0:
        raise NotExcitedError(
            f"--distance {distance_m:g}: odometry went {path:.2f} m and ended {net:.2f} m from its start; for a "
            "measured distance drive one straight line of at least 1 m in one direction"
        )
    return _widened(Estimate(distance_m / net, (distance_m - TAPE_M) / net, (distance_m + TAPE_M) / net))


def _heading(recording: Recording, scans: ScanDistances | None) -> tuple[Estimate, str]:
    """True turn over the turn that was measured, and a note on it."""
    if len(recording.imus) > 1:
        return ONE, ""
    if scans is None or scans.turn_factor is None:
        return ONE, "heading from odom, taken to be a gyro's; "
    return scans.turn_factor, f"heading from odom, {scans.turn_factor.value:.3f} times as scans say; "


def _track(
    robot: Robot, speed: LagFit | None, yaw: LagFit | None, radius: Estimate | None, heading: Estimate
) -> tuple[Estimate | None, str]:
    """The track multiplier with which commanded yaw rates would come true."""
    if yaw is None:
        return None, ""
    wheels, answer, size = speed.gain if speed else ONE, yaw.gain, radius or ONE
    factor = size.value * wheels.value / (answer.value * heading.value)
    spread = math.sqrt(sum((part.half_width / part.value) ** 2 for part in (size, wheels, answer, heading)))
    note = "with the wheel radius found" if radius else "if the file's wheel radius is true"
    if robot.base.drive == "skid_steer":
        spread = math.hypot(spread, SKID_FLOOR)
        note += "; so turns come true as asked, servos that give way to scrubbing tyres included"
    found = Estimate(factor, factor * (1.0 - spread), factor * (1.0 + spread))
    return _scaled(_widened(found), robot.base.track_multiplier), note


def _time(found: Estimate, floor_s: float, known_s: float = 0.0) -> Estimate:
    """What is left beside ``known_s``, the interval widened by what the model leaves out."""
    value, low, high = found.value - known_s, found.low - known_s - floor_s, found.high - known_s + floor_s
    return Estimate(max(value, 0.0), max(low, 0.0), max(high, 0.0))


def _unloaded(rolling: Estimate) -> Estimate:
    """The interval that holds the wheel's free radius, too: the file does not say which one it means."""
    return Estimate(rolling.value, rolling.low, rolling.high * (1.0 + SINKS))


def _widened(factor: Estimate) -> Estimate:
    return Estimate(factor.value, factor.low - FACTOR_FLOOR, factor.high + FACTOR_FLOOR)


def _scaled(factor: Estimate, by: float) -> Estimate:
    return Estimate(factor.value * by, factor.low * by, factor.high * by)
