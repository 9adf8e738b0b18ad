"""Walls and movers in the simulator: touched, seen where they are at the scan, and the same for every seed."""

import math
from dataclasses import replace

import mujoco
import numpy as np
import pytest

from dsac_robot.core.lidar import returns_in_base
from dsac_robot.core.robot import load_robot
from dsac_robot.core.values import NS, Command, Contact, Sample, Scan, ns
from sim.simulator import SimParams, Simulator
from sim.wall_gap import WallGap
from sim.worlds import Mover, World, WorldError

ROBOT = load_robot("jackal")
IDEAL = SimParams(noise=False, wheel_odometry=False)
BARE = World("bare", np.zeros((0, 3)), (0.0, 0.0, 0.0), (5.0, 0.0), 5.0)
FRONT_M = float(ROBOT.footprint[:, 0].max())


def crossing(x_m: float, speed_mps: float = 0.5) -> World:
    """A cylinder that goes to and fro across the robot's way at ``x_m``."""
    mover = Mover.along(0.25, np.array([[x_m, -2.0], [x_m, 2.0]]), speed_mps)
    return replace(BARE, movers=(mover,))


def run(
    sim: Simulator, seconds: float, command: tuple[float, float] = (0.0, 0.0), step_s: float = 0.02
) -> list[Sample]:
    samples = []
    end_ns = sim.time_ns + ns(seconds)
    while sim.time_ns < end_ns:
        sim.send(Command(sim.time_ns, *command))
        samples += sim.advance(sim.time_ns + ns(step_s))
    return samples


def test_a_mover_goes_along_its_points_at_its_speed_and_back_for_ever() -> None:
    mover = Mover.along(0.2, np.array([[0.0, 0.0], [3.0, 0.0], [3.0, 0.0], [3.0, 4.0]]), 0.5)
    assert mover.speed_mps_max == pytest.approx(0.5)
    for time_s, place in ((0.0, (0.0, 0.0)), (3.0, (1.5, 0.0)), (10.0, (3.0, 2.0)), (14.0, (3.0, 4.0))):
        assert mover.position_m(time_s) == pytest.approx(place)
        assert mover.position_m(28.0 - time_s) == pytest.approx(place)  # on the way back
        assert mover.position_m(28.0 + time_s) == pytest.approx(place)  # and again
    standing = Mover(0.2, np.zeros(1), np.array([[1.0, 2.0]]))
    assert standing.position_m(100.0) == (1.0, 2.0) and standing.speed_mps_max == 0.0
    assert standing.velocity_mps(100.0) == (0.0, 0.0)


def test_a_movers_velocity_is_how_its_place_changes() -> None:
    mover = Mover(0.3, np.array([0.0, 4.0, 10.0]), np.array([[0.0, 0.0], [2.0, 0.0], [2.0, -6.0]]))
    for time_s in np.arange(0.03, 45.0, 0.37):
        (x0, y0), (x1, y1) = mover.position_m(time_s), mover.position_m(time_s + 1e-6)
        assert mover.velocity_mps(time_s) == pytest.approx(((x1 - x0) / 1e-6, (y1 - y0) / 1e-6), abs=1e-6)
    assert mover.velocity_mps(0.0) == mover.velocity_mps(20.0) == (0.5, 0.0)
    assert mover.velocity_mps(4.0) == (0.0, -1.0) and mover.velocity_mps(10.0) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("radius", "times", "points", "says"),
    [
        (0.0, [0.0], [[0.0, 0.0]], "radius_m = 0.0 must be above 0"),
        (math.nan, [0.0], [[0.0, 0.0]], "radius_m = nan"),
        (0.2, [0.0, 1.0], [[0.0, 0.0]], r"points_m must be finite, of shape \(2, 2\)"),
        (0.2, [0.0], [[math.inf, 0.0]], "points_m must be finite"),
        (0.2, [1.0], [[0.0, 0.0]], "must increase from 0"),
        (0.2, [0.0, 0.0], [[0.0, 0.0], [1.0, 0.0]], "must increase from 0"),
        (0.2, [], np.zeros((0, 2)), "must increase from 0"),
    ],
)
def test_a_mover_that_cannot_be_is_refused_with_the_field(radius: float, times: list, points: list, says: str) -> None:
    with pytest.raises(WorldError, match=says):
        Mover(radius, np.array(times, np.float64), np.array(points, np.float64))


@pytest.mark.parametrize("walls", [np.zeros((1, 4)), np.array([[0, 0, 1, 0, 0.0]]), np.array([[math.nan, 0, 1, 1, 0]])])
def test_walls_that_cannot_be_are_refused_with_the_worlds_name(walls: np.ndarray) -> None:
    with pytest.raises(WorldError, match=r"bare: walls_m .* \(M, 5\)"):
        replace(BARE, walls_m=walls)


def test_each_scan_shows_a_mover_where_it_is_at_the_stamp_of_the_scan() -> None:
    world = crossing(1.5)
    sim = Simulator(ROBOT, world, 0, IDEAL)
    scans = [sample for sample in run(sim, 3.0, (0.1, 0.1), step_s=0.1) if isinstance(sample, Scan)]
    assert len(scans) == 121
    seen = 0
    truth = Simulator(ROBOT, world, 0, IDEAL)
    for scan in scans:
        run(truth, (scan.stamp_ns - truth.time_ns) / NS, (0.1, 0.1), step_s=0.005)
        points = returns_in_base(scan.ranges_m, ROBOT.lidar)
        places = [math.dist(truth.base_to_world(*p), world.movers[0].position_m(scan.stamp_ns / NS)) for p in points]
        if places:
            np.testing.assert_allclose(places, 0.25, atol=0.004)  # 8 mm of way between two steps
            seen += 1
        assert tuple(truth.obstacles()[-1, :2]) == pytest.approx(world.movers[0].position_m(truth.time_ns / NS))
    assert seen > 60


def bits(samples: list[Sample]) -> list[tuple]:
    return [
        (type(s).__name__, *(v.tobytes() if isinstance(v, np.ndarray) else repr(v) for v in vars(s).values()))
        for s in samples
    ]


def test_samples_among_movers_do_not_depend_on_how_far_each_advance_goes() -> None:
    found = []
    for step_s in (0.005, 0.1):
        sim = Simulator(ROBOT, crossing(1.2, 1.0), 3)
        sim.send(Command(0, 0.3, 0.2))
        samples: list[Sample] = []
        while sim.time_ns < ns(1.5):
            samples += sim.advance(sim.time_ns + ns(step_s))
        found.append(bits(samples))
    assert found[0] == found[1]


def test_a_mover_touches_a_robot_that_stands_and_the_contact_is_not_caused_by_it() -> None:
    sim = Simulator(ROBOT, crossing(0.1), 0, IDEAL)
    samples = run(sim, 5.0)
    touch = next(s for s in samples if isinstance(s, Contact) and s.touching)
    half_width = float(ROBOT.footprint[:, 1].max())
    assert touch.stamp_ns / NS == pytest.approx((2.0 - half_width - 0.25) / 0.5, abs=0.03)
    assert sim.touched and sim.touch_speed_mps < 0.02


def test_a_robot_that_drives_into_a_mover_has_caused_the_contact() -> None:
    mover = Mover.along(0.25, np.array([[1.5, 0.0], [1.5, 0.01]]), 0.01)
    sim = Simulator(ROBOT, replace(BARE, movers=(mover,)), 0, IDEAL)
    run(sim, 3.0, (0.5, 0.0))
    assert sim.touched and sim.touch_speed_mps == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("yaw", [0.5 * math.pi, 0.5 * math.pi + 0.6])
def test_a_robot_that_drives_into_a_wall_touches_it_where_it_stands(yaw: float) -> None:
    wall = np.array([[1.5, 0.0, 3.0, 0.05, yaw]])
    sim = Simulator(ROBOT, replace(BARE, walls_m=wall), 0, IDEAL)
    while not sim.touched and sim.time_ns < ns(4.0):
        run(sim, 0.02, (0.5, 0.0))
    assert sim.touched and sim.touch_speed_mps == pytest.approx(0.5, abs=0.1)
    assert WallGap(ROBOT.footprint, wall)(*sim.pose) == pytest.approx(0.0, abs=0.015)


def test_a_wall_beside_the_way_is_not_touched() -> None:
    side = float(ROBOT.footprint[:, 1].max()) + 0.05 + 0.03
    sim = Simulator(ROBOT, replace(BARE, walls_m=np.array([[1.0, side, 3.0, 0.05, 0.0]])), 0, IDEAL)
    run(sim, 2.0, (0.5, 0.0))
    assert sim.pose[0] > 0.7 and not sim.touched


def test_the_gap_to_walls_is_never_above_mujocos_distance_and_equal_face_to_face() -> None:
    rng = np.random.default_rng(0)
    low, high = ROBOT.footprint.min(axis=0), ROBOT.footprint.max(axis=0)
    for _ in range(60):
        x, y, yaw = rng.uniform(-2.0, 2.0, 3)
        wall = np.array([[*rng.uniform(-2.0, 2.0, 2), *rng.uniform(0.05, 1.5, 2), rng.uniform(-4.0, 4.0)]])
        spec = mujoco.MjSpec()
        body = [*(0.5 * (high - low)), 0.5]
        for size, place, turn in ((body, (x, y), yaw), ([*wall[0, 2:4], 0.5], wall[0, :2], wall[0, 4])):
            quat = [math.cos(0.5 * turn), 0.0, 0.0, math.sin(0.5 * turn)]
            spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, size=size, pos=[*place, 0.0], quat=quat)
        model = spec.compile()
        data = mujoco.MjData(model)
        mujoco.mj_forward(model, data)
        distance = mujoco.mj_geomDistance(model, data, 0, 1, 10.0, None)
        gap = WallGap(ROBOT.footprint, wall)(x, y, yaw)
        assert gap <= max(distance, 0.0) + 1e-6
        assert distance <= 0.0 or gap > 0.6 * distance  # corner to corner is nearer than any axis says
    assert WallGap(ROBOT.footprint, np.array([[1.0, 0.0, 0.2, 0.2, 0.0]]))(0.0, 0.0, 0.0) == pytest.approx(
        0.8 - FRONT_M
    )
    assert WallGap(ROBOT.footprint, np.zeros((0, 5)))(0.0, 0.0, 0.0) == math.inf
