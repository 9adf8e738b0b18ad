"""Faults of sensors, for tests and demos: what a broken lidar or odometry would say instead of the truth. Pure."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from dsac_robot.core.values import NS, Odom, Scan

LIDAR_FAULTS = (
    "none",
    "nan",  # every beam invalid
    "blank",  # every beam without return
    "frozen",  # the ranges of the last good scan under fresh stamps
    "half_blind",  # the left half of the beams without return
    "noise",  # 0.5 m of white noise on every range
    "rotated",  # the beams turned by a quarter of the fan
    "silent",  # no scans
    "future_stamp",  # stamps 1 s ahead
    "wrong_count",  # the last beam is missing
    "half_invalid",  # more than the left half of the beams not a number
    "old_stamp",  # stamps 1 s behind
    "repeated_stamp",  # new ranges under the stamp of the last good scan
    "wrong_frame",  # another frame's name
)
ODOM_FAULTS = (
    "none",
    "nan",  # pose and twist not a number
    "jump",  # the pose 1 m off, from one message to the next
    "frozen",  # the last good pose and twist under fresh stamps
    "silent",  # no odometry
    "future_stamp",  # stamps 1 s ahead
    "dead",  # the last good pose, trembling, and no twist: encoders that died, behind a filter
    "pose_frozen",  # the last good pose, and the twist as it is
)
CLOCK_FAULTS = ("none", "stop", "forward", "back")  # the last two: CLOCK_JUMP_NS ahead and behind, and on from there
CLOCK_JUMP_NS = 5 * NS
FUTURE_NS = NS
JUMP_M = 1.0
NOISE_STD_M = 0.5
TREMBLE_M = 1e-4


def faulty_scan(fault: str, scan: Scan, last_good: Scan, rng: np.random.Generator) -> Scan | None:
    """``scan`` as a lidar with ``fault`` (one of LIDAR_FAULTS) would send it; None for a scan that is not sent."""
    ranges = scan.ranges_m
    if fault == "silent":
        return None
    if fault == "future_stamp":
        return replace(scan, stamp_ns=scan.stamp_ns + FUTURE_NS)
    if fault == "old_stamp":
        return replace(scan, stamp_ns=scan.stamp_ns - FUTURE_NS)
    if fault == "repeated_stamp":
        return replace(scan, stamp_ns=last_good.stamp_ns)
    if fault == "wrong_frame":
        return replace(scan, frame_id="another_lidar")
    if fault == "nan":
        ranges = np.full_like(ranges, np.nan)
    elif fault == "blank":
        ranges = np.full_like(ranges, np.inf)
    elif fault == "frozen":
        ranges = last_good.ranges_m
    elif fault == "half_blind":
        ranges = ranges.copy()
        ranges[len(ranges) // 2 :] = np.inf
    elif fault == "half_invalid":
        ranges = ranges.copy()
        ranges[int(0.45 * len(ranges)) :] = np.nan
    elif fault == "noise":
        ranges = np.abs(ranges + rng.normal(0.0, NOISE_STD_M, len(ranges)).astype(np.float32))
    elif fault == "rotated":
        ranges = np.roll(ranges, len(ranges) // 4)
    elif fault == "wrong_count":
        ranges = ranges[:-1]
    return replace(scan, ranges_m=ranges)


def faulty_odom(fault: str, odom: Odom, last_good: Odom) -> Odom | None:
    """``odom`` as a base with ``fault`` (one of ODOM_FAULTS) would send it; None for a message that is not sent."""
    if fault == "silent":
        return None
    if fault == "nan":
        nan = float("nan")
        return Odom(odom.stamp_ns, nan, nan, nan, nan, nan, nan)
    if fault == "jump":
        return replace(odom, x_m=odom.x_m + JUMP_M)
    if fault == "future_stamp":
        return replace(odom, stamp_ns=odom.stamp_ns + FUTURE_NS)
    if fault == "frozen":
        return replace(last_good, stamp_ns=odom.stamp_ns)
    if fault == "pose_frozen":
        return replace(last_good, stamp_ns=odom.stamp_ns, speed_mps=odom.speed_mps, yaw_rate_radps=odom.yaw_rate_radps)
    if fault == "dead":
        x_m = last_good.x_m + TREMBLE_M * math.sin(odom.stamp_ns / 1e7)
        return replace(last_good, stamp_ns=odom.stamp_ns, x_m=x_m, speed_mps=0.0, yaw_rate_radps=0.0)
    return odom
