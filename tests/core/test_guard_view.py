"""What one scan says, what counts as free by it later, and which scans the memory keeps."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from dsac_robot.core.guard_geometry import Outline, Pose
from dsac_robot.core.guard_loops import GRAZE_M
from dsac_robot.core.guard_memory import (
    FRAMES,
    NO_POINTS,
    POINTS_KEPT_M,
    Known,
    Memory,
    View,
    eye_of,
    read_scan,
    remember,
    seen_free,
    with_slip,
)
from dsac_robot.core.robot import load_robot
from dsac_robot.core.values import NS, Floats, Scan
from tests.core import guard_plain as plain
from tests.core.test_guard_memory import ROOM, scan_from

JACKAL = load_robot("jackal")
LIDAR = JACKAL.lidar
OUTLINE = Outline.of(JACKAL.footprint)
SECTORS = int(math.tau / LIDAR.angle_increment_rad) + 1


def scan(ranges: Floats) -> Scan:
    return Scan(7, ranges.astype(np.float32), LIDAR.angle_min_rad, LIDAR.angle_increment_rad)


def view(pose: Pose, range_m: float = 3.0, slip: Pose = (0.0, 0.0, 0.0)) -> View:
    """A scan with returns at one distance all around (of the fan)."""
    return replace(read_scan(scan(np.full(LIDAR.beams, range_m)), LIDAR, pose, 0.0), slip=slip)


def test_a_scan_is_read_with_its_returns_and_what_it_shows_to_be_free() -> None:
    ranges = np.full(LIDAR.beams, 3.0)
    ranges[[0, 50, 100, 101, 200, -1]] = np.nan
    ranges[49], ranges[51], ranges[201], ranges[300] = 2.0, 2.5, 2.7, np.inf
    seen = read_scan(scan(ranges), LIDAR, (1.0, 2.0, 3.0), 0.5)
    assert (seen.stamp_ns, seen.pose, seen.drift_m, seen.valid_beams) == (7, (1.0, 2.0, 3.0), 0.5, LIDAR.beams - 6)
    assert len(seen.free_m) == SECTORS and np.isneginf(seen.free_m[LIDAR.beams :]).all()
    assert np.isneginf(seen.free_m[[0, 100, 101, LIDAR.beams - 1]]).all()
    assert seen.free_m[[49, 50, 51, 199, 200, 300]] == pytest.approx([2.0, 2.0, 2.5, 3.0, 2.7, LIDAR.range_max_m])
    assert len(seen.returns) == LIDAR.beams - 7  # neither what is bridged nor what met nothing


def test_gaps_at_the_second_and_the_last_but_one_beam_are_bridged_too() -> None:
    ranges = np.full(LIDAR.beams, 3.0)
    ranges[[1, -2]] = np.nan
    assert read_scan(scan(ranges), LIDAR, (0.0, 0.0, 0.0), 0.0).free_m[: LIDAR.beams] == pytest.approx(3.0)


def test_a_lidar_that_looks_all_around_has_no_sector_too_few() -> None:
    around = replace(LIDAR, beams=720, angle_min_rad=-math.pi, angle_increment_rad=math.tau / 720)
    whole = Scan(7, np.full(720, 3.0, np.float32), around.angle_min_rad, around.angle_increment_rad)
    assert np.isfinite(read_scan(whole, around, (0.0, 0.0, 0.0), 0.0).free_m[:720]).all()


def test_the_lidars_eye_is_where_it_is_mounted_and_its_first_sector_half_a_beam_before_the_first_beam() -> None:
    mounted = replace(LIDAR, x_m=0.2, y_m=-0.1, yaw_rad=0.3)
    x, y = plain.placed(np.array([[0.2, -0.1]]), np.array([1.0, 2.0, 0.7]))[0]
    first = 0.7 + 0.3 + LIDAR.angle_min_rad - 0.5 * LIDAR.angle_increment_rad
    np.testing.assert_allclose(eye_of((1.0, 2.0, 0.7), mounted), [x, y, first, LIDAR.angle_increment_rad])


def test_what_was_seen_free_shrinks_with_drift_with_slip_and_at_the_obstacles_speed() -> None:
    now = 10 * NS
    newest = replace(view((1.5, 2.0, 0.3), slip=(0.05, -0.02, 0.01)), stamp_ns=now - NS // 10, drift_m=0.5)
    frame = replace(view((0.5, 1.0, 0.1), slip=(0.02, 0.01, -0.02)), stamp_ns=now - 2 * NS, drift_m=0.3)
    disc = replace(frame, pose=(0.2, 0.4, 0.0), stamp_ns=now - 4 * NS, drift_m=0.2, slip=(0.0, 0.03, 0.02))
    later = replace(view((0.9, 1.4, 0.2)), stamp_ns=now - NS, drift_m=0.45, slip=newest.slip)
    known = Known.of(Memory((frame, later), NO_POINTS, disc), newest, now, OUTLINE, LIDAR, 0.05, 0.5)
    slips = [
        plain.slipped(np.array([[1.5, 2.0]]), np.array([old.slip]), np.array([newest.slip]))[0] for old in (frame, disc)
    ]
    np.testing.assert_allclose(known.stood[0], [1.5, 2.0, 0.3, 0.005, 0.05])
    np.testing.assert_allclose(known.stood[1], [0.5, 1.0, 0.1, 0.2 + slips[0] + 0.1, 0.2 + slips[0] + 1.0])
    np.testing.assert_allclose(known.stood[2], [0.9, 1.4, 0.2, 0.05 + 0.05, 0.05 + 0.5])
    less = 0.3 + slips[1] + np.array([0.2, 2.0])
    np.testing.assert_allclose(known.disc, [0.2, 0.4, *(OUTLINE.radius_m + 0.1 - less)])
    np.testing.assert_allclose(known.eyes, [eye_of(frame.pose, LIDAR), eye_of(later.pose, LIDAR)])
    np.testing.assert_allclose(known.eye, eye_of(newest.pose, LIDAR))
    early = Known.of(Memory((frame,)), newest, now - 3 * NS, OUTLINE, LIDAR, 0.05, 0.0)  # a clock that went back
    assert early.stood[0, 3] == early.stood[0, 4] == 0.0
    assert early.disc[2] == early.disc[3] == 0.0
    shy = Known.of(Memory((frame,)), newest, now, OUTLINE, LIDAR, 0.5, 0.05)  # the dark is never safer than the blind
    np.testing.assert_array_equal(shy.stood[:, 3], shy.stood[:, 4])


def test_the_swept_area_is_judged_in_the_base_frame_at_the_base() -> None:
    newest = view((0.0, 0.0, 0.0))
    known = Known.of(Memory(), newest, 7, OUTLINE, LIDAR, 0.0, 0.0)
    ahead, back = np.array([[1.0, 0.0, 0.0, 0.0]]), np.array([[-1.0, 0.0, 0.0, 0.0]])
    assert seen_free(ahead, (0.0, 0.0, 0.0), known, OUTLINE)
    assert not seen_free(back, (0.0, 0.0, 0.0), known, OUTLINE)
    assert seen_free(back, (1.0, 0.0, math.pi), known, OUTLINE)


def test_the_slip_of_a_scan_adds_to_that_of_the_key_frame_it_is_laid_onto() -> None:
    was, way, slip = (0.3, -0.2, 0.1), (1.1, 0.9, 0.2), (0.04, -0.03, 0.02)
    first = replace(read_scan(scan_from((1.0, 1.0, 0.0), ROOM_MOVED, 1), LIDAR, (1.0, 1.0, 0.0), 0.0), slip=was)
    odom = way[0] + slip[0], way[1] + slip[1], way[2] + slip[2]
    found = with_slip(
        read_scan(scan_from(way, ROOM_MOVED, 2), LIDAR, odom, 0.0), Memory((view((9, 9, 9)), first)), LIDAR
    )
    at = np.array([odom[:2]])
    moved = np.array(was[:2]) + was[2] * np.array([-at[0, 1], at[0, 0]]) - slip[:2]  # of the base: what was, and back
    now = np.array(found.slip)
    np.testing.assert_allclose(now[:2] + now[2] * np.array([-at[0, 1], at[0, 0]]), moved, atol=0.008)
    assert now[2] == pytest.approx(was[2] - slip[2], abs=0.008)


ROOM_MOVED = replace(ROOM, discs=ROOM.discs + np.array([1.0, 1.0, 0.0]), walls=ROOM.walls + 1.0)


def test_before_the_first_key_frame_the_slip_is_that_of_the_disc() -> None:
    disc = view((0.0, 0.0, 0.0), slip=(0.1, 0.2, 0.3))
    assert with_slip(view((0.0, 0.0, 0.0)), Memory(disc=disc), LIDAR).slip == (0.1, 0.2, 0.3)
    assert with_slip(view((0.0, 0.0, 0.0)), Memory(), LIDAR).slip == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("pose", "kept"),
    [
        ((0.199, 0.0, 0.0), False),
        ((0.0, -0.201, 0.0), True),
        ((0.15, 0.15, 0.0), True),
        ((0.0, 0.0, math.radians(19.9)), False),
        ((0.0, 0.0, -math.radians(20.1)), True),
        ((0.1, 0.0, math.tau), False),
    ],
)
def test_a_scan_from_20_cm_or_20_degrees_on_becomes_a_key_frame(pose: Pose, kept: bool) -> None:
    memory = remember(Memory(), None, view((0.0, 0.0, 0.0)), LIDAR)
    assert len(remember(memory, None, view(pose), LIDAR).frames) == 1 + kept


def drive(xs: list[float], memory: Memory = Memory()) -> Memory:
    for x in xs:
        memory = remember(memory, None, view((x, 0.0, 0.0)), LIDAR)
    return memory


def test_of_too_many_key_frames_the_farthest_is_dropped() -> None:
    full = drive([0.3 * i for i in range(FRAMES)])
    assert len(full.frames) == FRAMES
    more = drive([0.3 * FRAMES], full)
    assert [f.pose[0] for f in more.frames] == pytest.approx([0.3 * i for i in range(1, FRAMES + 1)])
    back = drive([-0.3], full)
    assert [f.pose[0] for f in back.frames] == pytest.approx([*(0.3 * i for i in range(FRAMES - 1)), -0.3])


def test_a_key_frame_from_an_old_place_takes_the_place_of_the_nearest_one() -> None:
    memory = drive([0.0, 0.25, 0.5, 0.22])
    assert [f.pose[0] for f in memory.frames] == [0.0, 0.5, 0.22]
    assert [f.pose[0] for f in drive([0.0, 0.25, 0.5, 0.75, 0.12]).frames] == [0.25, 0.5, 0.75, 0.12]


def test_a_key_frame_remembers_its_returns_with_their_slip_and_forgets_what_it_looks_through() -> None:
    through, hidden = (1.0, 0.0), (-1.0, 0.0)
    before = np.array([[*p, 0.1, 0.2, 0.3] for p in (through, hidden)])
    disc = view((5.0, 5.0, 0.0))
    memory = remember(Memory((), before, disc), None, view((0.0, 0.0, 0.0), 1.5, slip=(0.4, 0.5, 0.6)), LIDAR)
    old = memory.points[memory.points[:, 2] == 0.1]
    assert hidden in {tuple(p) for p in old[:, :2]}
    assert through not in {tuple(p) for p in old[:, :2]}
    new = memory.points[memory.points[:, 2] == 0.4]
    assert np.hypot(new[:, 0] - LIDAR.x_m, new[:, 1]) == pytest.approx(1.5, abs=1e-5)
    assert len(new) > 300 and (new[:, 2:] == [0.4, 0.5, 0.6]).all()
    assert memory.disc is disc


@pytest.mark.parametrize(("before_m", "kept"), [(GRAZE_M - 0.01, True), (GRAZE_M + 0.01, False)])
def test_a_return_just_before_what_a_key_frame_meets_stays_remembered(before_m: float, kept: bool) -> None:
    old = np.array([[LIDAR.x_m + 1.5 - before_m, 0.0, 0.1, 0.2, 0.3]])
    points = remember(Memory((), old), None, view((0.0, 0.0, 0.0), 1.5), LIDAR).points
    assert (points[:, 2] == 0.1).sum() == kept


def test_returns_farther_than_2_m_are_dropped_when_a_key_frame_is_made() -> None:
    points = np.array([[-x, 0.5, 0.0, 0.0, 0.0] for x in (0.5, POINTS_KEPT_M - 0.05, POINTS_KEPT_M + 0.05)])
    kept = remember(Memory((), points), None, view((0.0, 0.0, 0.0), 9.0), LIDAR).points
    assert sorted(kept[kept[:, 0] < -0.4, 0]) == pytest.approx([-POINTS_KEPT_M + 0.05, -0.5])


def test_a_scan_that_is_no_key_frame_and_loses_nothing_from_view_leaves_the_memory_as_it_was() -> None:
    first = view((0.0, 0.0, 0.0))
    memory = remember(Memory(), None, first, LIDAR)
    assert remember(memory, first, view((0.0, 0.0, 0.0), 2.9), LIDAR) is memory
    turned = remember(memory, first, view((0.0, 0.0, 0.1)), LIDAR)
    assert turned.frames == memory.frames
