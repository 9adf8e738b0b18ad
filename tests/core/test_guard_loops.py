"""The guard's compiled loops say what their definitions say, and keep to the array's bounds at every edge."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dsac_robot.core import guard_loops
from dsac_robot.core.guard_geometry import Outline
from dsac_robot.core.guard_loops import BODY_M, GRAZE_M, GRID_S, MATCH_EDGE_M, REST_MPS, SLIP_M, SPACING_M, TIE_M
from dsac_robot.core.guard_memory import eye_of
from dsac_robot.core.values import Floats, Floats32
from tests.core import guard_plain as plain
from tests.core.guard_world import JACKAL, World

OUTLINE = Outline.of(JACKAL.footprint)
PLANES = OUTLINE.planes
LIDAR = JACKAL.lidar
ROOM = World(np.array([[1.2, 1.0, 0.25], [1.5, -0.8, 0.1]]), np.array([[-2.0, -1.5, 3, -1.5], [3.0, -1.5, 3, 2.5],
    [3.0, 2.5, -2, 2.5], [-2.0, 2.5, -2, -1.5]]))  # fmt: skip
LAG = 0.7, 0.2, 0.05, 0.35


def pose(rng: np.random.Generator, size: float = 1.0) -> Floats:
    return np.array([*rng.uniform(-size, size, 2), rng.uniform(-3.0, 3.0)])


def eye(rng: np.random.Generator) -> Floats:
    return np.array([*rng.uniform(-0.5, 0.5, 2), rng.uniform(-3.0, 3.0), 0.1])


def sectors(rng: np.random.Generator, count: int = 40) -> Floats32:
    """Of eyes that do not look all around; some sectors see nothing."""
    free = rng.uniform(0.3, 3.0, count).astype(np.float32)
    free[rng.random(count) < 0.1] = -np.inf
    return free


def test_clearance_is_that_of_the_farthest_plane_and_negative_inside() -> None:
    points = np.random.default_rng(0).uniform(-1.0, 1.0, (100, 2))
    found = [guard_loops.clearance_at(x, y, PLANES) for x, y in points]
    np.testing.assert_allclose(found, plain.clearance(points, PLANES))
    assert guard_loops.clearance_at(0.0, 0.0, PLANES) < -0.1


def test_a_point_is_seen_from_a_pose_where_that_pose_would_place_it() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        at, point = pose(rng), rng.uniform(-2.0, 2.0, 2)
        there = guard_loops.seen_from(*plain.placed(point[None], at)[0], at, np.cos(at[2]), np.sin(at[2]))
        np.testing.assert_allclose(there, point)


def test_a_scan_looks_beyond_a_point_by_what_its_sector_shows() -> None:
    rng = np.random.default_rng(2)
    for _ in range(10):
        points, there, free = rng.uniform(-2.0, 2.0, (40, 2)), eye(rng), sectors(rng)
        np.testing.assert_allclose(
            guard_loops.beyond_each(points, there, free), plain.beyond(points, there, free), rtol=1e-6, atol=1e-6
        )


def test_no_sector_lies_at_the_end_of_the_last_one() -> None:
    free = np.full(4, 5.0, np.float32)[:2]  # what lies behind it in memory is free
    assert guard_loops.beyond(0.0, 1.0, np.array([0.0, 0.0, 0.0, math.pi / 4.0]), free) == -math.inf


def test_returns_are_placed_with_their_slip_where_no_other_scan_looks() -> None:
    rng = np.random.default_rng(3)
    for _ in range(10):
        returns, at, slip, there, free = rng.uniform(-2.0, 2.0, (60, 2)), pose(rng), pose(rng), eye(rng), sectors(rng)
        points = plain.placed(returns, at)
        points = points[np.isneginf(plain.beyond(points, there, free))]
        expected = np.column_stack([points, np.tile(slip, (len(points), 1))])
        np.testing.assert_allclose(guard_loops.placed_returns(returns, at, slip, there, free), expected)


def fan(width: float) -> Floats:
    bearings = np.arange(-guard_loops.MATCH_SIDE, guard_loops.MATCH_SIDE + 1) * width
    return np.column_stack([np.cos(bearings), np.sin(bearings)])


def test_the_line_through_both_sides_of_a_beam_is_that_of_the_wall_there() -> None:
    rng = np.random.default_rng(4)
    for _ in range(20):
        free = (2.0 + 0.02 * np.arange(13) + rng.uniform(-0.02, 0.02, 13)).astype(np.float32)
        normal, far = plain.line(free, 6, 0.02, 10.0)
        np.testing.assert_allclose(guard_loops.line_through(free, 6, fan(0.02), 10.0), [*normal, far], rtol=1e-6)
    wall = (1.5 / np.cos((np.arange(9) - 4) * 0.02 - 0.3)).astype(np.float32)
    np.testing.assert_allclose(
        guard_loops.line_through(wall, 4, fan(0.02), 10.0), [-math.cos(0.3), -math.sin(0.3), -1.5], rtol=1e-4
    )


@pytest.mark.parametrize("beam", range(13))
@pytest.mark.parametrize("range_m", [0.0, -math.inf, 10.0, 2.0 + 1.01 * MATCH_EDGE_M, 2.0 - 1.01 * MATCH_EDGE_M])
def test_an_edge_or_a_missing_return_beside_a_beam_makes_no_line(beam: int, range_m: float) -> None:
    free = np.full(13, 2.0, np.float32)
    free[beam] = range_m
    assert (guard_loops.line_through(free, 6, fan(0.02), 10.0) == (0.0, 0.0, 0.0)) == (2 <= beam <= 10)
    free[beam] = 2.0 + 0.99 * MATCH_EDGE_M
    assert guard_loops.line_through(free, 6, fan(0.02), 10.0) != (0.0, 0.0, 0.0)


def test_returns_at_the_lidars_full_range_or_at_no_range_make_no_line() -> None:
    for nothing in (10.0, 0.0):
        assert guard_loops.line_through(np.full(13, nothing, np.float32), 6, fan(0.02), 10.0) == (0.0, 0.0, 0.0)
    assert guard_loops.line_through(np.full(13, 9.99, np.float32), 6, fan(0.02), 10.0) != (0.0, 0.0, 0.0)


def test_elimination_solves_what_is_symmetric_and_positive() -> None:
    rng = np.random.default_rng(5)
    for _ in range(5):
        half, b = rng.normal(size=(3, 3)), rng.normal(size=3)
        a = half @ half.T + np.eye(3)
        expected = np.linalg.solve(a, b)
        guard_loops.eliminate(a, b)
        np.testing.assert_allclose(b, expected)


def test_the_shift_that_lays_a_scan_onto_another_is_the_least_squares_one() -> None:
    rng = np.random.default_rng(6)
    for _ in range(4):
        first, there = pose(rng, 0.2), pose(rng, 0.2)
        there[2] = first[2] + 0.2
        ranges = ROOM.ranges(*first, LIDAR) + rng.normal(0.0, 0.01, LIDAR.beams)
        ranges[rng.random(LIDAR.beams) < 0.02] = LIDAR.range_max_m
        bearings = LIDAR.angles_rad + LIDAR.yaw_rad
        arms = ROOM.ranges(*there, LIDAR)[:, None] * np.column_stack([np.cos(bearings), np.sin(bearings)])
        returns, odom = arms + np.array([LIDAR.x_m, LIDAR.y_m]), there + np.array([0.04, -0.03, 0.03])
        given = returns, odom, eye_of(tuple(first), LIDAR), ranges.astype(np.float32), LIDAR.range_max_m
        found = guard_loops.scan_shift(*given)
        np.testing.assert_allclose(found, plain.shift(*given), rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(found[2], -0.03, atol=0.01)
    few = returns[:: len(returns) // 60].copy(), *given[1:]
    assert guard_loops.scan_shift(*few) == (0.0, 0.0, 0.0)


def test_thinning_keeps_the_first_point_of_each_cell_within_reach() -> None:
    rng = np.random.default_rng(7)
    for x, y, reach in ((0.0, 0.0, 0.2), (1.31, -0.77, 0.1), (-0.333, 2.111, 0.15)):
        spread = rng.uniform(-reach - 0.06, reach + 0.06, (1500, 2))
        points = np.column_stack([spread + np.array([x, y]), rng.normal(size=(1500, 3))])
        np.testing.assert_array_equal(guard_loops.thinned(points, x, y, reach), plain.thinned(points, x, y, reach))


def test_a_point_slips_by_the_shift_and_by_the_turn_about_the_origin() -> None:
    rng = np.random.default_rng(8)
    points, before, now = rng.normal(size=(20, 2)), rng.normal(size=(20, 3)), rng.normal(size=(20, 3))
    found = [guard_loops.slipped(*p, b, n) for p, b, n in zip(points, before, now, strict=True)]
    np.testing.assert_allclose(found, plain.slipped(points, before, now))


@pytest.mark.parametrize("held", [0, 1, 7])
def test_a_roll_out_samples_the_path_that_lag_hold_and_stop_make(held: int) -> None:
    rng = np.random.default_rng(9)
    commands = np.array([[1.7, 0.6], [-0.4, -1.1], [0.0, 1.9], [0.0, 0.0], [0.6, 0.0], [0.03, 0.0]])
    stop_s = np.array([0.5, 0.31, 0.4, 0.0, 0.2, 0.02])
    before = rng.uniform(-1.0, 1.0, (held, 2))
    for first in ((0.9, -0.7), (0.0, 0.0), (0.03, 0.0), (REST_MPS, 0.0), (0.0, -0.4)):
        poses, counts = guard_loops.roll_out_poses(commands, stop_s, first, before, 0.11, LAG)
        for k in range(len(commands)):
            steps, corners = plain.path(commands[k], float(stop_s[k]), first, before, 0.11, LAG)
            kept = poses[k, : counts[k]]
            index = np.rint(kept[:, 3] / GRID_S).astype(int)
            np.testing.assert_allclose(kept, steps[index], atol=1e-12)
            assert index[0] == 0 and (np.diff(index) > 0).all()
            moving = corners > REST_MPS
            rests = np.flatnonzero(moving[:-1] & ~moving[1:]) + 1  # the first pose of each rest
            assert set(rests) <= set(index)
            assert not moving[-1] or index[-1] == len(steps) - 1
            assert all(moving[i] or i in rests for i in index[1:])
            way = np.concatenate([[0.0], np.cumsum(corners[:-1] * GRID_S)])
            cells = np.ceil(way / SPACING_M)
            for i in np.flatnonzero(moving[1:]) + 1:  # each pose that goes into a new cell since the last one kept
                last = index[index < i].max()
                assert (cells[i] != cells[last] or i == len(steps) - 1) == (i in index) or i in rests


def test_without_hold_stop_and_lag_a_roll_out_has_one_step_for_the_command() -> None:
    none, fast = np.zeros((0, 2)), (1.0, 0.0)
    for before, count in ((none, 2), (np.array([[1.0, 0.0]] * 2), 4)):
        poses, counts = guard_loops.roll_out_poses(
            np.array([[1.0, 0.0]]), np.zeros(1), fast, before, 0.0, (0.0, 0.0, 0.0, 0.35)
        )
        assert poses.shape[1] >= counts[0] == count
        np.testing.assert_allclose(poses[0, : counts[0], 3], np.arange(count) * GRID_S)


def test_the_swept_area_is_free_where_each_point_was_seen_stood_or_vouched_for() -> None:
    rng, answers = np.random.default_rng(10), []
    for _ in range(1500):
        boundary = OUTLINE.boundary[rng.choice(len(OUTLINE.boundary), 3)]
        frames = int(rng.integers(0, 3))
        less = rng.uniform(0.0, 0.1, (frames + 1, 2)).cumsum(axis=1) * [1.0, rng.choice([1.0, 2.0])]
        less[:, 1] = np.maximum(less[:, 1], less[:, 0]) if rng.random() < 0.5 else less[:, 0]
        stood = np.array([[*pose(rng, 0.5), *less[i]] for i in range(frames + 1)])
        eyes = np.array([eye(rng) for _ in range(frames)]).reshape(-1, 4)
        free = np.array([sectors(rng) for _ in range(frames)], np.float32).reshape(-1, 40)
        poses = np.array([[*pose(rng, 0.3), 0.0] for _ in range(int(rng.integers(1, 3)))])
        disc = np.array([*rng.uniform(-0.5, 0.5, 2), *rng.uniform(0.0, 0.4, 2)])
        own = sectors(rng) if rng.random() < 0.5 else np.full(40, -np.inf, np.float32)
        given = (
            poses,
            pose(rng, 0.3),
            boundary,
            PLANES,
            eye(rng),
            own,
            int(rng.integers(0, 45)),
            stood,
            eyes,
            free,
            disc,
        )
        answers.append(plain.seen_free(*given))
        assert guard_loops.swept_seen_free(*given) == answers[-1]
    assert 150 < sum(answers) < 1350


def alone(x_m: float, eye_x_m: float, range_m: float, shrunk_m: float, which: str) -> bool:
    """Whether a point ahead is free by one look, by one stay or by the disc alone."""
    point, rest, off = np.array([[0.0, 0.0]]), np.zeros(3), np.array([100.0, 0.0, 0.0, 0.1])
    looks, blind = np.full(63, range_m, np.float32), np.full(63, -np.inf, np.float32)
    eyes = np.array([[eye_x_m, 0.0, -0.05, 0.1]])
    far = 100.0, 0.0, 0.0, 0.0, 0.0
    stood = np.array([far, [eye_x_m if which == "stood" else 100.0, 0.0, 0.0, shrunk_m, shrunk_m]])
    disc = np.array([eye_x_m, 0.0, *(2 * [range_m if which == "disc" else 0.0])])
    at, own = np.array([[x_m, 0.0, 0.0, 0.0]]), (eyes[0], looks) if which == "now" else (off, blind)
    frames = (looks if which == "frame" else blind)[None]
    return bool(guard_loops.swept_seen_free(at, rest, point, PLANES, *own, 63, stood, eyes, frames, disc))


def test_a_look_now_an_earlier_look_a_stay_and_the_disc_free_a_point_up_to_their_limits() -> None:
    front = float(JACKAL.footprint[:, 0].max())
    for off, free in ((-1e-3, True), (1e-3, False)):
        assert alone(1.5 + GRAZE_M + off, 0.5, 1.0, 0.0, "now") == free
        assert alone(1.5 + GRAZE_M - 0.2 + off, 0.5, 1.0, 0.2, "frame") == free
        assert alone(1.0 + front - 0.05 + off, 1.0, 0.0, 0.05, "stood") == free
        assert alone(1.5 + off, 0.5, 1.0, 0.0, "disc") == free
        assert alone(front + BODY_M + 0.1 * off, 50.0, 0.0, 0.0, "body") == free


def some_poses(rng: np.random.Generator, commands: int, counts: Floats) -> Floats:
    """Poses that go on from the origin; those behind the count are far off."""
    steps = rng.uniform(-0.1, 0.25, (commands, 6, 4))
    steps[:, 0], steps[..., 3] = 0.0, GRID_S
    poses = np.cumsum(steps, axis=1)
    for k, count in enumerate(counts):
        poses[k, count:] = 50.0
    return poses


def test_near_are_the_returns_and_what_is_remembered_within_reach_of_the_poses() -> None:
    rng, sizes = np.random.default_rng(11), []
    for case in range(60):
        counts = rng.integers(1, 7, 3)
        growth, age = (0.0, 0.5)[case % 2], float(rng.uniform(-0.3, 0.1))
        remembered = np.column_stack([rng.uniform(-3.0, 3.0, (80, 2)), rng.uniform(-0.05, 0.05, (80, 3))])
        ways = some_poses(rng, 3, counts), counts, rng.uniform(0.0, 0.3, 3), growth, age, 0.35, pose(rng)
        scan = rng.uniform(-3.0, 3.0, (80, 2)), pose(rng), eye(rng), sectors(rng)
        slip = rng.uniform(-0.05, 0.05, 3)
        expected = plain.near(*ways, *scan, remembered, slip)
        np.testing.assert_allclose(guard_loops.near_discs(*ways, *scan, remembered, slip), expected, atol=1e-12)
        sizes.append(len(expected))
    assert min(sizes) > 0 and max(sizes) < 150


@pytest.mark.parametrize("point", [(0.79, 0.0), (-0.79, 0.0), (0.0, 0.79), (0.0, -0.79)])
def test_a_return_just_at_the_end_of_the_reach_is_not_near_and_one_just_within_is(point: tuple[float, float]) -> None:
    keeps, rest, blind = np.array([0.25]), np.zeros(3), np.zeros(0, np.float32)
    reach = 0.5 + (keeps.max() + 0.0 + SLIP_M)
    for part, count in ((1.0, 0), (1.0 - 1e-9, 2)):
        at = np.array([point]) / 0.79 * reach * part
        old = np.column_stack([at, np.zeros((1, 3))])
        near = guard_loops.near_discs(
            np.zeros((1, 1, 4)), np.array([1]), keeps, 0.0, 0.0, 0.5, rest, at, rest, np.array([0.0, 0.0, 0.0, 0.1]),
            blind, old, rest,
        )  # fmt: skip
        assert len(near) == count


def some_discs(rng: np.random.Generator, count: int) -> Floats:
    return np.column_stack([rng.uniform(-1.0, 1.5, (count, 2)), rng.uniform(0.0, 0.1, count)])


def test_the_nearest_disc_is_that_of_all_poses_and_what_is_short_grows_with_time() -> None:
    rng = np.random.default_rng(12)
    for case in range(40):
        poses, discs = some_poses(rng, 1, np.array([5]))[0], some_discs(rng, 6)
        growth, age = (0.0, 0.5)[case % 2], float(rng.uniform(-0.2, 0.1))
        found = guard_loops.nearest_disc(poses, np.int64(5), discs, PLANES, 0.05, growth, age)
        gaps = plain.gaps(poses[:5], discs, PLANES)
        grown = 0.05 + growth * np.maximum(poses[:5, 3:] + age, 0.0)
        np.testing.assert_allclose(found, [gaps.min(), (gaps - grown).min()], atol=1e-12)
        none = guard_loops.nearest_disc(poses, np.int64(5), discs[:0], PLANES, 0.05, growth, age)
        np.testing.assert_allclose(none, [grown[-1, 0], math.inf])


def test_a_command_keeps_clear_where_each_disc_is_as_far_as_it_must_be() -> None:
    rng, answers = np.random.default_rng(13), []
    for case in range(400):
        counts = rng.integers(1, 7, 3)
        poses, stop = some_poses(rng, 3, counts), some_poses(rng, 1, np.array([6]))[0]
        discs, keeps = some_discs(rng, 1 + case % 2), rng.uniform(0.02, 0.3, 3)
        growth, age = (0.0, 0.5, 2.0)[case % 3], float(rng.uniform(-0.05, 0.1))
        slowness = rng.uniform(0.0, 1.0, 3) * (rng.random(3) < 0.5)
        clear = guard_loops.keep_clear(
            poses, counts, keeps, growth, age, slowness, stop, discs, PLANES, OUTLINE.radius_m
        )
        for k in range(3):
            way = poses[k, : counts[k]], float(keeps[k]), growth, age, float(slowness[k])
            answers.append(plain.keeps_clear(*way, stop, discs, PLANES))
            assert clear[k] == answers[-1]
    assert 200 < sum(answers) < 1000


WALL = np.array([[1.0, 0.0, 0.25]])  # an outline of one plane, ahead


def kept(gap_m: float, stop_gap_m: float, keep: float, growth: float, late_s: float, slowness: float = 0.0) -> bool:
    """Whether a command keeps clear that comes as near as ``gap_m``, where the stop comes as near as the other."""
    way, stop = np.zeros((1, 1, 4)), np.zeros((1, 4))
    way[0, 0, 0], way[0, 0, 3], stop[0, 0] = 1.0 - gap_m, late_s, 1.0 - stop_gap_m
    one, disc = np.array([1]), np.array([[1.25, 0.0, 0.0]])
    keeps, slow = np.array([keep]), np.array([slowness])
    return bool(guard_loops.keep_clear(way, one, keeps, growth, 0.0, slow, stop, disc, WALL, 9.0)[0])


def test_a_command_may_come_just_as_near_as_it_keeps_or_as_the_stop_does_and_no_nearer() -> None:
    assert kept(0.25, 0.5, 0.25, 0.0, 0.0)  # just what is kept
    assert not kept(0.25 - 2**-20, 0.5, 0.25, 0.0, 0.0)
    assert kept(0.125, 0.125 + TIE_M / 2, 0.25, 0.0, 0.0)  # the stop is as near, but for rounding
    assert not kept(0.125, 0.125 + 2 * TIE_M, 0.25, 0.0, 0.0)
    assert kept(0.125, 0.0, 0.25, 0.5, 0.25)  # just what an obstacle may have come
    assert not kept(0.125 - 2**-20, 0.0, 0.25, 0.5, 0.25)
    assert kept(0.125, 0.0, 0.25, 0.0, 0.0, slowness=0.5)  # half of what is kept is left
    assert not kept(0.125 - 2**-20, 0.0, 0.25, 0.0, 0.0, slowness=0.5)
