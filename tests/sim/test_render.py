"""Pictures: something is on them, what moves moves, and looking changes nothing."""

import mujoco
import numpy as np
import pytest

from dsac_robot.core.robot import load_robot
from dsac_robot.core.values import Command, Scan, ns
from sim.render import Caption, SceneRenderer, Stage, scan_points
from sim.robot_model import build
from sim.simulator import SimParams, Simulator
from sim.worlds import empty_world

ROBOT = load_robot("jackal")
WORLD = empty_world((6.0, 0.0))
SIZE = (160, 120)
YELLOW = np.array([255, 200, 30])


def driven(seconds: float, seed: int = 0) -> tuple[Simulator, Scan, tuple[float, float, float]]:
    """A simulator after a straight drive at 1 m/s, its newest scan, and where that was taken."""
    sim = Simulator(ROBOT, WORLD, seed, SimParams())
    (scan,) = [sample for sample in sim.advance(0) if isinstance(sample, Scan)]
    pose = sim.pose
    while sim.time_ns < ns(seconds):
        sim.send(Command(sim.time_ns, 1.0, 0.0))
        for sample in sim.advance(sim.time_ns + ns(0.02)):
            if isinstance(sample, Scan):
                scan, pose = sample, sim.pose
    return sim, scan, pose


@pytest.fixture(scope="module")
def top() -> SceneRenderer:
    return SceneRenderer(ROBOT, WORLD, SIZE, "top")


def shell(image: np.ndarray) -> np.ndarray:
    """Pixels of the robot's yellow shell. # (H, W) bool"""
    return np.abs(image.astype(int) - YELLOW).sum(axis=2) < 110


def test_a_picture_shows_the_robot_the_floor_and_the_obstacles(top: SceneRenderer) -> None:
    image = top.frame(driven(0.1)[0])
    assert image.shape == (SIZE[1], SIZE[0], 3) and image.dtype == np.uint8
    assert image.std() > 10.0
    rows, columns = np.nonzero(shell(image))
    assert len(rows) > 8
    assert abs(rows.mean() - 0.5 * SIZE[1]) < 12 and abs(columns.mean() - 0.5 * SIZE[0]) < 12


def test_what_stands_still_passes_by_as_the_robot_drives(top: SceneRenderer) -> None:
    first, second = top.frame(driven(0.1)[0]), top.frame(driven(1.6)[0])
    changed = np.abs(first.astype(int) - second.astype(int)).sum(axis=2) > 40
    assert changed.mean() > 0.02


def test_from_behind_a_turning_robot_is_seen_to_turn() -> None:
    chase = SceneRenderer(ROBOT, WORLD, SIZE, "chase")
    sim = driven(0.1)[0]
    before = chase.frame(sim)
    for _ in range(25):
        sim.send(Command(sim.time_ns, 0.0, 1.5))
        sim.advance(sim.time_ns + ns(0.02))
    after = chase.frame(sim)
    chase.close()
    assert shell(before).sum() > 50 and shell(after).sum() > 50
    assert np.count_nonzero(shell(before) ^ shell(after)) > 30


def test_returns_the_way_driven_and_the_caption_are_drawn_over_the_scene(top: SceneRenderer) -> None:
    sim, scan, pose = driven(0.6)
    plain = top.frame(sim)
    points = top.frame(sim, scan_points(scan, ROBOT, pose))
    trail = top.frame(sim, None, [(-1.0, 0.0, (0.0, 0.0, 1.0)), (0.6, 0.0, (0.0, 0.0, 1.0))])
    caption = top.frame(sim, None, (), Caption("STOP", (1.0, 0.0, 0.0), ("blank scan",)))
    for more in (points, trail, caption):
        assert np.any(plain != more)
    assert np.all(caption[5, 3] == (255, 0, 0))


def test_returns_are_drawn_where_the_posts_are() -> None:
    _, scan, pose = driven(1.0)
    points = scan_points(scan, ROBOT, pose)
    posts = WORLD.cylinders_m
    gaps = np.hypot(points[:, None, 0] - posts[:, 0], points[:, None, 1] - posts[:, 1]) - posts[:, 2]
    assert np.quantile(np.abs(gaps.min(axis=1)), 0.95) < 0.06


def test_looking_at_a_drive_does_not_change_it(top: SceneRenderer) -> None:
    seen, unseen = driven(0.5)[0], driven(0.5)[0]
    for sim in (seen, unseen):
        for _ in range(20):
            if sim is seen:
                top.frame(sim)
            sim.send(Command(sim.time_ns, 0.8, 0.7))
            sim.advance(sim.time_ns + ns(0.02))
    assert seen.pose == unseen.pose


def test_the_dressed_model_has_the_bodies_joints_and_masses_of_the_plain_one() -> None:
    dressed, plain = Stage(ROBOT, WORLD).model, build(ROBOT, WORLD).model
    assert (dressed.nq, dressed.nv, dressed.nbody, dressed.nmocap) == (plain.nq, plain.nv, plain.nbody, plain.nmocap)
    robot = plain.body("base").id
    assert dressed.body_mass[robot] == plain.body_mass[robot]
    seen_only = dressed.ngeom - plain.ngeom
    assert seen_only > 0
    assert np.count_nonzero((dressed.geom_contype == 0) & (dressed.geom_conaffinity == 0)) == seen_only
    assert dressed.geom_group[mujoco.mj_name2id(dressed, mujoco.mjtObj.mjOBJ_GEOM, "body")] > 2


@pytest.mark.parametrize(("size", "camera", "named"), [(SIZE, "side", "chase, top"), ((4, 4), "top", "16x16")])
def test_an_unknown_camera_or_an_impossible_size_is_refused_with_what_there_is(
    size: tuple[int, int], camera: str, named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        SceneRenderer(ROBOT, WORLD, size, camera)
