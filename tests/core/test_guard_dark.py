"""Beams within the fan that say nothing: what was seen there before is believed only as long as nothing can have come.

In profile ``static`` nothing moves, and what was seen free stays free. Where obstacles move, whoever comes through the
dark of the fan must meet a robot at rest.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsac_robot.core.guard_loops import GRAZE_M, beyond, saw_around
from dsac_robot.core.reasons import Reason
from tests.core.guard_world import JACKAL, STATIC, Run, World

DYNAMIC = replace(STATIC, obstacle_speed_mps_max=0.5)
HALL = np.array([[-3.0, -3, 30, -3], [-3, 3, 30, 3], [-3, -3, -3, 3], [30, -3, 30, 3]])
PERSON_M = 0.25
MIDDLE = JACKAL.lidar.beams // 2


def dark(beams: int, off: int = 0) -> tuple[int, int]:
    return MIDDLE + off - beams // 2, MIDDLE + off + beams // 2


def crossed(run: Run, seconds: float, person: tuple[float, float], speed_mps: float = 0.5) -> float:
    """Drive at full speed while somebody walks from (x, y) to the middle of the hall and stays: the least clearance
    while the robot moves."""
    least = math.inf
    for k in range(round(seconds / 0.02)):
        left = max(0.0, abs(person[1]) - speed_mps * 0.02 * k)
        run.world = World(np.array([[person[0], math.copysign(left, person[1]), PERSON_M]]), HALL)
        run.drive(lambda run: (2.0, 0.0), 0.02)
        if abs(run.twist[0]) > 0.02:
            least = min(least, run.world.clearance_m(*run.pose, JACKAL.footprint))
    return least


@pytest.mark.parametrize("beams", [40, 100, 200, 300])
@pytest.mark.parametrize("side_m", [-0.8, 0.6])
def test_who_walks_into_the_dark_ahead_meets_a_robot_at_rest(beams: int, side_m: float) -> None:
    run, person = Run(World(walls=HALL), DYNAMIC), (4.0, side_m)
    crossed(run, 1.2, person, speed_mps=0.0)
    assert run.twist[0] > 1.0
    run.dark = dark(beams)
    assert crossed(run, 5.0, person) > 0.0


def test_in_the_dark_a_robot_drives_as_far_as_nothing_can_have_come_or_as_it_remembers() -> None:
    ways = []
    for params in (DYNAMIC, STATIC):
        run = Run(World(walls=HALL), params)
        run.drive(lambda run: (0.3, 0.0), 1.5)
        run.dark, start_m = dark(200), run.pose[0]
        run.drive(lambda run: (0.3, 0.0), 14.0)
        ways.append(run.pose[0] - start_m)
        assert Reason.UNSEEN_SPACE in {d.reason for d in run.decisions}
        assert abs(run.twist[0]) < 0.02
    assert ways[0] < 0.5  # at the bound somebody is as fast as the robot
    assert ways[1] > 1.5


def test_a_post_of_the_robots_own_beside_its_way_and_beams_that_fail_now_and_then_let_it_drive() -> None:
    run = Run(World(walls=HALL), DYNAMIC, dropout=0.02)
    run.dark = dark(14, 150)
    run.drive(lambda run: (1.0, 0.0), 5.0)
    assert run.pose[0] > 4.0


def test_at_rest_the_dark_lets_a_robot_that_waited_go_nowhere_ahead() -> None:
    run = Run(World(walls=HALL), DYNAMIC)
    run.drive(lambda run: (0.0, 0.0), 0.5)
    run.dark = dark(200)
    run.drive(lambda run: (0.0, 0.0), 6.0)
    run.drive(lambda run: (1.0, 0.0), 2.0)
    assert abs(run.pose[0]) < 0.05


@settings(max_examples=150, deadline=None)
@given(
    st.tuples(st.floats(-3.0, 3.0), st.floats(-3.0, 3.0)),
    st.floats(0.0, 1.5),
    st.integers(0, 2**31),
    st.floats(-math.pi, math.pi),
)
def test_where_a_scan_saw_around_a_point_it_saw_all_that_could_come_to_it(
    point: tuple[float, float], radius: float, seed: int, first: float
) -> None:
    rng = np.random.default_rng(seed)
    eye = np.array([0.3, -0.2, first, math.tau / 90])
    free = rng.uniform(1.0, 6.0, 90).astype(np.float32)
    free[rng.random(90) < 0.05] = -np.inf
    saw = saw_around(*point, radius, eye, free)
    angles, parts = rng.uniform(-math.pi, math.pi, 300), np.sqrt(rng.random(300))
    around = np.array(point) + radius * (parts * [np.cos(angles), np.sin(angles)]).T
    shown = [beyond(x, y, eye, free) > -GRAZE_M - 1e-6 for x, y in around]
    assert not saw or all(shown)
    far = math.dist(point, eye[:2])
    if not saw and far > radius:  # for a cause: a beam near the disc ends short of its far end
        middles = first + (np.arange(90) + 0.5) * eye[3] - math.atan2(point[1] - eye[1], point[0] - eye[0])
        reached = np.abs(np.remainder(middles + math.pi, math.tau) - math.pi) <= math.asin(radius / far) + eye[3]
        assert (free[reached] < far + radius).any()


def test_a_scan_does_not_see_around_its_own_eye_nor_around_what_is_no_number() -> None:
    eye, free = np.array([0.0, 0.0, 0.0, 0.1]), np.full(63, 5.0, np.float32)
    assert saw_around(1.0, 0.0, 0.9, eye, free)
    assert not saw_around(1.0, 0.0, 1.0, eye, free)
    assert not saw_around(math.nan, 0.0, 0.1, eye, free)
    assert saw_around(4.5, 0.0, 0.5, eye, free)
    assert not saw_around(4.6, 0.0, 0.5, eye, free)
