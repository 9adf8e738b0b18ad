"""The memory of what was seen: laid onto the scans where odometry slipped, and kept where it leaves the view."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsac_robot.core.guard_geometry import Pose
from dsac_robot.core.guard_loops import slipped
from dsac_robot.core.guard_memory import Memory, View, read_scan, remember, with_slip
from dsac_robot.core.robot import load_robot
from dsac_robot.core.values import Scan, ns
from tests.core.guard_world import World

LIDAR = load_robot("jackal").lidar
AROUND = [[-2.0, -1.5, 3.0, -1.5], [3.0, -1.5, 3.0, 2.5], [3.0, 2.5, -2.0, 2.5], [-2.0, 2.5, -2.0, -1.5]]
ROOM = World(np.array([[1.2, 1.0, 0.25], [1.5, -0.8, 0.1]]), np.array(AROUND))
CORRIDOR = World(walls=np.array([[-50.0, -1.0, 50.0, -1.0], [-50.0, 1.0, 50.0, 1.0]]))


def scan_from(pose: Pose, world: World, seed: int, stamp_ns: int = 0) -> Scan:
    noise = np.random.default_rng(seed).normal(0.0, 0.01, LIDAR.beams)
    ranges = (world.ranges(*pose, LIDAR) + noise).astype(np.float32)
    return Scan(stamp_ns, ranges, LIDAR.angle_min_rad, LIDAR.angle_increment_rad)


def two_scans(world: World, there: Pose, odom: Pose) -> View:
    """The second of two scans: the first from the origin, the second from ``there``, where odometry says ``odom``."""
    first = read_scan(scan_from((0.0, 0.0, 0.0), world, 1), LIDAR, (0.0, 0.0, 0.0), 0.0)
    memory = remember(Memory(), None, with_slip(first, Memory(), LIDAR), LIDAR)
    return with_slip(read_scan(scan_from(there, world, 2, ns(0.1)), LIDAR, odom, 0.0), memory, LIDAR)


@settings(max_examples=40, deadline=None)
@given(
    slip=st.tuples(*[st.floats(-0.08, 0.08)] * 2, st.floats(-0.05, 0.05)),
    way=st.tuples(*[st.floats(-0.15, 0.15)] * 2, st.floats(-0.3, 0.3)),
)
def test_the_scans_show_how_far_odometry_slipped(slip: Pose, way: Pose) -> None:
    odom = way[0] + slip[0], way[1] + slip[1], way[2] + slip[2]
    view = two_scans(ROOM, way, odom)
    x, y = odom[:2]
    turn = -slip[2]
    expected = np.array([-slip[0] + turn * y, -slip[1] - turn * x, turn])
    np.testing.assert_allclose(view.slip, expected, atol=0.008)
    assert slipped(x, y, np.zeros(3), np.array(view.slip)) == pytest.approx(math.hypot(*slip[:2]), abs=0.008)


def test_in_a_corridor_they_show_slip_across_and_invent_none_along() -> None:
    view = two_scans(CORRIDOR, (0.1, 0.0, 0.0), (0.16, 0.05, 0.0))
    assert view.slip[1] == pytest.approx(-0.05, abs=0.005)
    assert abs(view.slip[0]) < 0.01


def test_where_little_is_to_be_seen_no_slip_is_made_up() -> None:
    post = World(np.array([[2.0, 0.0, 0.05]]))
    assert two_scans(post, (0.0, 0.0, 0.0), (0.3, 0.1, 0.0)).slip == (0.0, 0.0, 0.0)


def test_what_leaves_the_view_is_remembered_where_it_was_seen_last_not_where_the_last_key_frame_saw_it() -> None:
    bearing = float(LIDAR.angles_rad[-1]) + LIDAR.yaw_rad - 0.05  # at the left edge of the view
    direction, eye = np.array([math.cos(bearing), math.sin(bearing)]), np.array([LIDAR.x_m, LIDAR.y_m])

    def beside(range_m: float) -> World:
        return World(np.array([*ROOM.discs, (*(eye + range_m * direction), 0.03)]), ROOM.walls)

    memory, before = Memory(), None
    for i, world in enumerate((beside(1.0), beside(0.7), ROOM)):  # it comes nearer; the robot turns from it
        pose = 0.0, 0.0, -math.radians(8.0) if i == 2 else 0.0
        view = with_slip(read_scan(scan_from(pose, world, i, ns(0.1 * i)), LIDAR, pose, 0.0), memory, LIDAR)
        memory, before = remember(memory, before, view, LIDAR), view
    assert len(memory.frames) == 1
    arms = memory.points[:, :2] - eye
    along = arms @ direction
    there = (along > 0.0) & (np.hypot(*(arms - np.outer(along, direction)).T) < 0.03)
    assert along[there].min() == pytest.approx(0.67, abs=0.03)


def test_what_dithers_between_two_key_frames_does_not_grow_the_memory_without_end() -> None:
    memory, before, sizes = Memory(), None, []
    for i in range(60):
        yaw = 0.1 * (i % 2)
        view = read_scan(scan_from((0.0, 0.0, yaw), ROOM, i, ns(0.1 * i)), LIDAR, (0.0, 0.0, yaw), 0.0)
        memory, before = remember(memory, before, view, LIDAR), view
        sizes.append(len(memory.points))
    assert sizes[-1] < sizes[2] + 200
    assert len(memory.frames) == 1
