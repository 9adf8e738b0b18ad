"""The fallback: held in place for long, the robot backs off the way it came, as safely as it drives."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsac_robot.core.guard_fallback import FallbackPolicy
from dsac_robot.core.history import MissingSampleError
from dsac_robot.core.reasons import Level, Reason
from dsac_robot.core.values import NS, Command, Odom, ns
from tests.core.guard_world import JACKAL, STATIC, TICK_S, Run, World

PARAMS = replace(STATIC, fallback_after_s=1.0)
WALL = World(walls=np.array([[2.0, -5.0, 2, 5], [-6, -5, -6, 5], [-6, -5, 2, -5], [-6, 5, 2, 5]]))


def insist(run: Run) -> tuple[float, float]:
    return 1.0, 0.0


def fallen_back(run: Run) -> list[float]:
    """Times at which the fallback drove."""
    return [i * 4 * TICK_S for i, d in enumerate(run.decisions) if d.level == Level.FALLBACK]


def test_a_robot_held_at_a_wall_backs_off_after_the_time_set_and_hands_back() -> None:
    run = Run(WALL, PARAMS)
    run.drive(insist, 4.0)
    nearest = run.pose[0]
    run.drive(insist, 1.2)
    times = fallen_back(run)
    assert times and times[0] > 2.5
    assert min(d.speed_mps for d in run.decisions) == pytest.approx(-PARAMS.fallback_speed_mps, abs=1e-6)
    assert nearest - run.pose[0] > 0.1 or len(times) > 20
    assert {d.reason for d in run.decisions if d.level == Level.FALLBACK} == {Reason.BACKING_OFF}
    run.drive(insist, 4.0)
    assert run.decisions[-1].level != Level.EMERGENCY
    assert run.clearance_moving_m > 0.0


def test_each_further_try_at_the_same_place_backs_off_farther_up_to_four_times() -> None:
    run = Run(WALL, PARAMS)
    run.drive(insist, 30.0)
    asked = [dict(d.numbers)["distance_m"] for d in run.decisions if d.level == Level.FALLBACK]
    steps = [a for a, b in zip(asked, [0.0, *asked], strict=False) if a != b]
    assert steps[:4] == pytest.approx([0.3, 0.6, 0.9, 1.2])
    assert max(asked) == pytest.approx(1.2)


def test_nothing_backs_off_where_it_is_switched_off() -> None:
    run = Run(WALL, STATIC)
    run.drive(insist, 6.0)
    assert not fallen_back(run)


def test_a_robot_that_is_asked_to_stand_before_a_wall_stands() -> None:
    run = Run(WALL, PARAMS)
    run.drive(lambda run: (1.0, 0.0) if run.tick * TICK_S < 2.0 else (0.0, 0.0), 6.0)
    assert not fallen_back(run)


def test_a_fault_ends_the_backing_off() -> None:
    run = Run(WALL, PARAMS)
    while not fallen_back(run):
        run.drive(insist, 0.1)
    run.silent.add("scan")
    run.drive(insist, 1.0)
    assert run.decisions[-1].reason == Reason.SCAN_STALE
    assert run.decisions[-1].speed_mps == 0.0


def test_an_operator_is_never_overruled_by_the_fallback() -> None:
    run = Run(WALL, PARAMS)
    for _ in range(400):
        run.inp = replace(run.inp, teleop=Command(NS + round(run.tick * TICK_S * NS), 1.0, 0.0))
        run.drive(insist, 4 * TICK_S)
    assert not fallen_back(run)


def test_it_backs_off_along_the_curve_that_it_came_on() -> None:
    """A bent corridor with room for the robot and little more: straight back would touch the wall."""
    angles = np.linspace(-0.4, 1.2, 33)
    walls = [
        [r * math.sin(a), 2.0 - r * math.cos(a), r * math.sin(b), 2.0 - r * math.cos(b)]
        for r in (1.55, 2.45)
        for a, b in itertools.pairwise(angles)
    ]
    tip = 1.1
    walls.append(
        [
            *(1.55 * np.array([math.sin(tip), -math.cos(tip)]) + [0, 2]),
            *(2.45 * np.array([math.sin(tip), -math.cos(tip)]) + [0, 2]),
        ]
    )
    run = Run(World(walls=np.array(walls)), PARAMS)
    run.drive(lambda run: (0.6, 0.3), 4.0)
    held, off = run.pose, []
    for _ in range(70):
        run.drive(lambda run: (0.6, 0.3), 0.1)
        if run.decisions[-1].level == Level.FALLBACK:
            x, y, yaw = run.pose
            off.append(
                (
                    math.dist(run.pose[:2], held[:2]),
                    abs(math.hypot(x, y - 2.0) - 2.0),
                    abs(yaw - math.atan2(x, 2.0 - y)),
                )
            )
    back_m, beside_m, askew_rad = np.array(off).max(axis=0)
    assert back_m > 0.4
    assert beside_m < 0.1 and askew_rad < 0.25
    assert run.clearance_moving_m > 0.0


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_among_random_posts_no_backing_off_touches_anything(seed: int) -> None:
    rng = np.random.default_rng(seed)
    centres = rng.uniform(-2.0, 4.0, (30, 2))
    discs = np.column_stack([centres, np.full(30, 0.1)])[np.hypot(*centres.T) > 0.7]
    turn = float(rng.uniform(-1.0, 1.0))
    run = Run(World(discs=discs), PARAMS, seed=seed)
    run.drive(lambda run: (0.8, turn), 8.0)
    assert run.clearance_moving_m > 0.0


def test_as_a_policy_it_backs_off_by_its_distance_and_stops() -> None:
    fallback = FallbackPolicy(JACKAL, PARAMS)
    with pytest.raises(MissingSampleError, match="odometry"):
        fallback.tick(NS)
    asked: list[Command] = []

    def policy(run: Run) -> tuple[float, float]:
        scan = run.inp.scan
        if run.tick * TICK_S < 2.5 or scan is None:
            return 0.5, 0.3
        if fallback.due(scan.stamp_ns):
            asked.append(fallback.tick(scan.stamp_ns))
        return asked[-1].speed_mps, asked[-1].yaw_rate_radps

    run = Run(World(), replace(STATIC, blank_is_fault=False))
    for _ in range(int(6.0 / TICK_S)):
        if run.inp.odom is not None:
            fallback.add(run.inp.odom)
        run.drive(policy, TICK_S)
    assert asked[0].speed_mps == -PARAMS.fallback_speed_mps
    assert asked[0].yaw_rate_radps < 0.0  # back along the left-hand curve that it came on
    assert (asked[-1].speed_mps, asked[-1].yaw_rate_radps) == (0.0, 0.0)
    assert asked[-1].stamp_ns > asked[0].stamp_ns
    assert not fallback.due(asked[-1].stamp_ns + 1)


def test_as_a_policy_it_gives_up_where_it_gets_nowhere_and_begins_anew_after_a_reset() -> None:
    fallback = FallbackPolicy(JACKAL, PARAMS)
    fallback.add(Odom.from_yaw(NS, 0.0, 0.0, 0.0, 0.0, 0.0))
    limit_s = 2.0 * PARAMS.fallback_distance_m / PARAMS.fallback_speed_mps
    assert fallback.tick(NS) == Command(NS, -PARAMS.fallback_speed_mps, 0.0)
    assert fallback.tick(NS + ns(limit_s) - 1).speed_mps < 0.0
    assert fallback.tick(NS + ns(limit_s)).speed_mps == 0.0
    fallback.reset()
    assert fallback.due(0)
    fallback.add(Odom.from_yaw(NS, 0.0, 0.0, 0.0, 0.0, 0.0))
    assert fallback.tick(9 * NS).speed_mps < 0.0
