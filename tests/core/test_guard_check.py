"""The check of commands part by part: what is probed, what is kept, what is tried instead and what is chosen."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from dsac_robot.core.guard_check import (
    CREEP_MPS,
    ESCAPE_MPS,
    FLIP_COST,
    SPEED_PARTS,
    TURN_COST,
    TURN_PARTS,
    UNSEEN_TRIES,
    Checker,
    Situation,
    candidates,
    is_still,
)
from dsac_robot.core.guard_loops import keep_clear
from dsac_robot.core.guard_memory import Memory, read_scan, remember
from dsac_robot.core.guard_motion import Motion, Sent, roll_out, stop_step, stop_time_s, under_way
from dsac_robot.core.reasons import Level, Reason
from dsac_robot.core.values import NS, Scan, Twist, ns
from tests.core import guard_plain as plain
from tests.core.guard_world import JACKAL, STATIC, World

LIMITS, LIDAR = JACKAL.limits, JACKAL.lidar
CHECKER = Checker.of(replace(STATIC, margin_s=0.02), JACKAL)
DYNAMIC = Checker.of(replace(STATIC, obstacle_speed_mps_max=0.5, margin_s=0.02), JACKAL)
RADIUS = CHECKER.outline.radius_m
REST = (0.0, 0.0)


@cache
def look(wall_m: float, post_y_m: float = 9.0) -> Scan:
    """A wall across ``wall_m`` before the base, and a post a little before it."""
    world = World(np.array([[wall_m - 0.1, post_y_m, 0.05]]), np.array([[wall_m, -6.0, wall_m, 6.0], [-6, -6, -6, 6]]))
    ranges = world.ranges(0.0, 0.0, 0.0, LIDAR).astype(np.float32)
    return Scan(NS, ranges, LIDAR.angle_min_rad, LIDAR.angle_increment_rad)


def situation(
    wall_m: float = 5.0,
    last: Twist = REST,
    twist: Twist | None = None,
    checker: Checker = CHECKER,
    post_y_m: float = 9.0,
) -> Situation:
    """Activated at the origin, with the scan taken there 50 ms before the odometry, going on as it was told last."""
    view = read_scan(look(wall_m, post_y_m), LIDAR, (0.0, 0.0, 0.0), 0.0)
    memory = remember(Memory(disc=view), None, view, LIDAR)
    now = NS + ns(0.06)
    before = np.tile(np.array(last), (3, 1))
    place = NS + ns(0.05), (0.0, 0.0, 0.0), last if twist is None else twist, last
    return Situation(checker, now, *place, 0.02, before, view, memory)


# -- how the base moves ----------------------------------------------------------------------------------------------


def test_the_motion_of_a_robot_is_that_of_its_description() -> None:
    actuation = replace(
        JACKAL.actuation, motor_time_constant_s=0.05, action_delay_s=0.02, response_delay_s=0.03, side_slip_s=0.07
    )
    motion = Motion.of(replace(JACKAL, actuation=actuation))
    assert motion.limits is JACKAL.limits
    assert (motion.delay_s, motion.settle_s, motion.side_slip_s) == pytest.approx((0.05, 0.2, 0.07))
    assert (motion.keep, motion.radius_m) == pytest.approx((math.exp(-0.4), RADIUS))
    assert Motion.of(replace(JACKAL, actuation=replace(actuation, motor_time_constant_s=0.0))).keep == 0.0


def test_a_stop_takes_as_long_as_the_slower_of_speed_and_turn() -> None:
    assert stop_time_s(-1.1, 0.6, LIMITS) == pytest.approx(1.1 / LIMITS.brake_mps2)
    assert stop_time_s(0.1, -1.8, LIMITS) == pytest.approx(1.8 / LIMITS.yaw_accel_radps2_max)
    assert stop_step((1.1, 0.6), 0.05, LIMITS) == pytest.approx((0.825, 0.45))
    assert stop_step((1.1, 0.6), 0.2, LIMITS) == REST
    assert stop_step((1.1, 0.6), 0.2 - 1e-10, LIMITS) == REST  # rounding, no ghost of a speed
    assert stop_step((1.1, 0.6), 0.2 - 1e-6, LIMITS) != REST


def test_under_way_is_at_each_step_the_newest_command_that_acts_by_then() -> None:
    sent = tuple(Sent(NS + ns(0.02 * k), 0.1 * k, -0.1 * k) for k in range(6))
    acting = under_way(sent, NS + ns(0.055), 0.0951, 0.041)
    # the middles of the steps, less the delay: 24, 44, 64, 84, 104 ms after the first command
    np.testing.assert_allclose(acting, [[0.1, -0.1], [0.2, -0.2], [0.3, -0.3], [0.4, -0.4], [0.5, -0.5]])
    assert under_way(sent, NS, 0.0, 0.04).shape == under_way(sent, NS, -0.5, 0.04).shape == (0, 2)
    np.testing.assert_array_equal(under_way((), NS, 0.04, 0.04), np.zeros((2, 2)))
    np.testing.assert_allclose(under_way(sent[3:], NS, 0.04, 0.04), [[0.3, -0.3]] * 2)  # nothing older is known
    np.testing.assert_allclose(under_way(sent, NS, 0.04, 0.03), [[0.0, 0.0], [0.0, 0.0]])
    np.testing.assert_allclose(under_way(sent, NS, 0.06, 0.03)[2], [0.1, -0.1])  # one that acts from the middle on


def test_a_roll_out_brakes_each_command_by_its_own_ramp() -> None:
    motion, before = CHECKER.motion, np.array([[0.2, 0.1]])
    commands = np.array([[1.5, 0.5], [0.1, -1.8], [-0.4, 0.0]])
    rollout = roll_out(commands, (0.3, 0.2), before, 0.1, motion)
    lag = motion.keep, motion.settle_s, motion.side_slip_s, motion.radius_m
    for k, (command, count) in enumerate(zip(commands, rollout.counts, strict=True)):
        steps, _ = plain.path(command, stop_time_s(*command, LIMITS), (0.3, 0.2), before, 0.1, lag)
        index = np.rint(rollout.poses[k, :count, 3] / 0.02).astype(int)
        np.testing.assert_allclose(rollout.poses[k, :count], steps[index], atol=1e-9)
    first = rollout.poses[0, : rollout.counts[0]]
    assert rollout.length_m == pytest.approx(np.linalg.norm(np.diff(first[:, :2], axis=0), axis=1).sum())
    np.testing.assert_array_equal(rollout.only(1).poses, rollout.poses[1:2])
    np.testing.assert_array_equal(rollout.only(1).counts, rollout.counts[1:2])


# -- what is checked -------------------------------------------------------------------------------------------------


def test_a_command_is_held_for_the_reaction_time_less_the_delay_and_a_period_at_least() -> None:
    assert Checker.of(replace(STATIC, reaction_s=0.2), JACKAL).hold_s == pytest.approx(
        0.2 - JACKAL.actuation.action_delay_s
    )
    assert Checker.of(replace(STATIC, reaction_s=0.01), JACKAL).hold_s == STATIC.period_s


@pytest.mark.parametrize(
    ("command", "probed"),
    [
        ((0.05, 0.1), (0.15, 0.3)),
        ((-0.05, 0.1), (-0.15, 0.3)),
        ((0.3, 0.4), (0.3, 0.4)),
        ((0.0, 0.1), (0.0, 0.5)),
        ((0.0009, -0.25), (0.0018, -0.5)),
        ((0.03, 0.9), (0.15, 2.0)),
        ((0.03, -0.9), (0.15, -2.0)),
        ((0.0, 0.0), (0.0, 0.0)),
    ],
)
def test_from_rest_a_command_is_probed_at_the_speed_at_which_motions_start(command: Twist, probed: Twist) -> None:
    assert tuple(CHECKER.probe(np.array([command]), situation())[0]) == pytest.approx(probed)


def test_under_way_a_command_is_probed_at_no_less_than_a_creep() -> None:
    corner = np.array([0.2, RADIUS])
    for slow in ((0.01, 0.0), (-0.01, 0.01), (0.0, 0.05)):
        probed = CHECKER.probe(np.array([slow]), situation(last=(0.1, 0.0)))[0]
        assert abs(probed[0]) + RADIUS * abs(probed[1]) == pytest.approx(CREEP_MPS)
        assert probed[0] * slow[1] == pytest.approx(probed[1] * slow[0])
    same = np.array([[0.0, 0.0], [1.01 * CREEP_MPS, 0.0], [0.05, 0.1]])
    np.testing.assert_array_equal(CHECKER.probe(same, situation(last=(0.1, 0.0))), same)
    np.testing.assert_array_equal(CHECKER.probe(same[2:], situation(last=(0.0, 0.1))), same[2:])
    np.testing.assert_allclose(
        CHECKER.corner_mps(np.array([[-0.2, -1.0], [0.1, 0.5]])), [corner.sum(), 0.1 + 0.5 * RADIUS]
    )


def test_what_is_kept_grows_with_the_speed_of_the_corner_and_with_the_age_of_the_scan() -> None:
    margins, growth, age_s = DYNAMIC.keeps(np.array([[1.0, -0.5], [0.0, 0.0]]), situation())
    np.testing.assert_allclose(margins, [0.03 + 0.02 * (1.0 + 0.5 * RADIUS), 0.03])
    assert (growth, age_s) == (0.5, pytest.approx(0.05))


def test_stopping_now_is_rolled_from_what_was_sent_last() -> None:
    at = situation(last=(1.0, 0.5), twist=(0.8, 0.4))
    stop = np.array([stop_step((1.0, 0.5), 0.02, LIMITS)])
    expected = roll_out(stop, (0.8, 0.4), at.before, STATIC.period_s, CHECKER.motion)
    count = expected.counts[0]
    assert at.stop_roll.counts[0] == count
    np.testing.assert_array_equal(at.stop_roll.poses[0, :count], expected.poses[0, :count])
    late, soon = replace(at, elapsed_s=0.06).stop_roll, replace(at, elapsed_s=0.0).stop_roll
    assert late.length_m < at.stop_roll.length_m == soon.length_m


@pytest.mark.parametrize("checker", [CHECKER, DYNAMIC], ids=["static", "dynamic"])
def test_the_nearest_is_the_least_of_all_returns_at_all_poses(checker: Checker) -> None:
    at = situation(0.65, last=(1.0, 0.5), checker=checker)
    command = np.array([[1.0, 0.6]])
    rollout = checker.rolled(command, at)
    poses = rollout.poses[0, : rollout.counts[0]]
    discs = np.column_stack([at.view.returns, np.zeros(len(at.view.returns))])
    gaps = plain.gaps(poses, discs, checker.outline.planes)
    growth = checker.params.obstacle_speed_mps_max
    keep = 0.03 + 0.02 * (1.0 + 0.6 * RADIUS) + growth * (poses[:, 3:] + 0.05)
    np.testing.assert_allclose(checker.nearest(command, rollout, at), [gaps.min(), (gaps - keep).min()], atol=1e-9)


@pytest.mark.parametrize("twist", [(0.1, 0.0), (1.2, 0.3), (-0.3, 0.0)], ids=["slow", "fast", "back"])
def test_the_faster_of_command_and_robot_says_how_much_of_the_margin_must_be_left(twist: Twist) -> None:
    commands = np.array([[0.05, 0.0], [0.3, 0.8], [0.9, 0.0], [1.9, 1.9]])
    most = LIMITS.speed_mps_max + RADIUS * LIMITS.yaw_rate_radps_max
    corner = np.maximum(CHECKER.corner_mps(commands), abs(twist[0]) + RADIUS * abs(twist[1]))
    slowness, answers = np.clip((corner - ESCAPE_MPS) / (most - ESCAPE_MPS), 0.0, 1.0), []
    for gap in np.linspace(0.0, 0.9, 91):
        at = situation(0.22 + float(gap), last=twist)
        rollout = CHECKER.rolled(commands, at)
        keeps, stop = CHECKER.keeps(commands, at), at.stop_roll
        near = CHECKER.near(keeps, rollout, at)
        rest = near, CHECKER.outline.planes, RADIUS
        expected = keep_clear(rollout.poses, rollout.counts, *keeps, slowness, stop.poses[0, : stop.counts[0]], *rest)
        np.testing.assert_array_equal(CHECKER.clear(commands, rollout, at), expected)
        answers.append(expected)
    assert 0 < np.sum(answers) < np.size(answers)


# -- what is tried instead -------------------------------------------------------------------------------------------


def plainly(target: Twist, limited: Twist, last: Twist, elapsed_s: float) -> list[tuple[float, float, float]]:
    """Speed, turn and cost of each candidate."""
    stop, step = stop_step(last, elapsed_s, LIMITS), LIMITS.yaw_accel_radps2_max * elapsed_s
    low, high = max(last[1] - step, -LIMITS.yaw_rate_radps_max), min(last[1] + step, LIMITS.yaw_rate_radps_max)
    least = min(0.01, 0.1 * LIMITS.accel_mps2_max * elapsed_s), min(0.03, 0.1 * step)
    made = []
    for part in SPEED_PARTS:
        speed = stop[0] + part * (limited[0] - stop[0])
        arc = speed * target[1] / target[0] if abs(target[0]) > 0.05 else limited[1]
        arc = min(max(arc, low), high)
        for share in TURN_PARTS:
            turn = min(max(arc + share * step, low), high)
            cost = 1.0 - part + TURN_COST * abs(turn - arc) / step + FLIP_COST * (turn * last[1] < -1e-4)
            on_spot = abs(speed) <= least[0]
            still = abs(speed) <= least[0] and abs(turn) <= least[1]
            if not still and not (on_spot and (turn * target[1] <= 0.0 or abs(turn) > abs(target[1]))):
                made.append((float(speed), float(turn), float(cost)))
    return made


def test_candidates_lie_between_the_asked_command_and_the_stop_at_all_turns_in_reach() -> None:
    rng = np.random.default_rng(0)
    cases: list[tuple[Twist, Twist, Twist]] = [
        ((0.0, 0.2), (0.0, 0.2), (0.0, 0.0)),
        ((0.04, 0.5), (0.04, 0.1), (0.1, 0.05)),
    ]
    for _ in range(60):
        last = float(rng.uniform(-0.5, 2.0)), float(rng.uniform(-2.0, 2.0))
        target = float(rng.choice([0.0, 0.04, -0.3, 0.5, 1.8])), float(rng.choice([0.0, 0.02, -1.0, 1.9]))
        limited = last[0] + float(rng.uniform(-0.08, 0.08)), last[1] + float(rng.uniform(-0.2, 0.2))
        cases.append((target, limited, last))
        cases.append((target, (0.5 * target[0], 0.1 * target[1]), (0.0, float(rng.choice([0.0, 1e-3, -0.01])))))
    for target, limited, last in cases:
        at = replace(situation(), last=last)
        commands, cost = candidates(target, limited, at, JACKAL)
        expected = np.array(plainly(target, limited, last, 0.02)).reshape(-1, 3)
        np.testing.assert_allclose(np.column_stack([commands, cost]), expected, atol=1e-9)


def best_plainly(target: Twist, limited: Twist, at: Situation) -> Twist | None:
    """The cheapest of the candidates that are clear and seen, each checked alone."""
    commands, cost = candidates(target, limited, at, JACKAL)
    clear = []
    for index in np.argsort(cost, kind="stable"):
        alone = commands[index : index + 1]
        if CHECKER.clear(alone, CHECKER.rolled(alone, at), at)[0]:
            clear.append(alone)
    for alone in clear[:UNSEEN_TRIES]:
        if CHECKER.seen(CHECKER.rolled(alone, at), at):
            return float(alone[0, 0]), float(alone[0, 1])
    return None


DRIVES: list[tuple[Twist, Twist, Twist]] = [  # asked for, within the rate limits, sent last
    ((1.0, 0.0), (1.0, 0.0), (1.0, 0.0)),
    ((1.5, 0.8), (1.08, 0.7), (1.0, 0.6)),
    ((0.3, -0.3), (0.25, -0.3), (0.2, -0.2)),
    ((-0.4, 0.3), (-0.35, 0.3), (-0.3, 0.25)),
    ((0.0, 1.0), (0.0, 0.2), (0.0, 0.0)),
    ((0.5, 0.0), (0.04, 0.0), (0.0, 0.0)),
]


@pytest.mark.parametrize("drive", DRIVES)
def test_the_choice_is_the_asked_command_or_the_cheapest_safe_one_or_a_stop(drive: tuple[Twist, Twist, Twist]) -> None:
    target, limited, last = drive
    met = set()
    for wall in np.linspace(0.22, 1.5, 33):
        at = situation(float(wall), last=last, post_y_m=0.1)
        choice, asked = CHECKER.choose(target, limited, at), np.array([limited])
        rollout = CHECKER.rolled(asked, at)
        least, short = CHECKER.nearest(asked, rollout, at)
        assert choice.numbers == (("clearance_m", least), ("stop_distance_m", rollout.length_m))
        clear = short >= 0.0 or bool(CHECKER.clear(asked, rollout, at)[0])
        best, stop = best_plainly(target, limited, at), stop_step(last, 0.02, LIMITS)
        assert CHECKER.search(target, limited, at) == best
        held = not is_still(last) and CHECKER.nearest(np.array([stop]), at.stop_roll, at)[1] >= 0.0
        why = Reason.UNSEEN_SPACE if clear else Reason.CLEARANCE
        if clear and CHECKER.seen(rollout, at):
            expected = limited, Level.DRIVE, Reason.NONE
        elif best is not None:
            expected = best, Level.LIMITED, why
        else:
            expected = stop, *((Level.LIMITED, why) if held else (Level.STOP, Reason.NO_SAFE_COMMAND))
        assert (choice.twist, choice.level, choice.reason) == expected
        met.add((choice.level, choice.twist == stop))
    assert len(met) > 1


def test_a_stop_that_ends_where_it_should_is_a_limit_and_one_that_does_not_is_a_stop() -> None:
    fast = (1.5, 0.0)
    levels = [
        CHECKER.choose(fast, fast, situation(float(wall), last=fast)).level for wall in np.linspace(2.0, 0.3, 200)
    ]
    order = [level for i, level in enumerate(levels) if i == 0 or level != levels[i - 1]]
    assert order == [Level.DRIVE, Level.LIMITED, Level.STOP]


@pytest.mark.parametrize(
    ("target", "last", "twist", "still"),
    [
        ((0.009, 0.029), REST, REST, True),
        ((-0.009, -0.029), (0.009, 0.0), (0.0, 0.029), True),
        ((0.011, 0.0), REST, REST, False),
        ((0.0, 0.031), REST, REST, False),
        (REST, (0.011, 0.0), REST, False),
        (REST, REST, (0.0, -0.031), False),
    ],
)
def test_what_is_no_motion_is_zero_without_any_check(target: Twist, last: Twist, twist: Twist, still: bool) -> None:
    choice = CHECKER.choose(target, target, situation(0.2, last=last, twist=twist))
    assert (choice.numbers == ()) == still
    assert not still or (choice.twist, choice.level, choice.reason) == (REST, Level.DRIVE, Reason.NONE)


def test_space_seen_before_shrinks_at_the_speed_set_for_it_while_the_scan_ages() -> None:
    filling = Checker.of(replace(STATIC, unseen_speed_mps_max=0.5), JACKAL)
    at = situation(checker=filling)
    np.testing.assert_allclose(at.known.stood[:, 3], 0.5 * 0.06)
    np.testing.assert_array_equal(situation().known.stood[:, 3], 0.0)
