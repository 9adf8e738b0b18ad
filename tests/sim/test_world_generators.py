"""The generators: the same world for a seed, always a way through, and a difficulty that can be measured."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from dsac_robot.core.values import Floats
from sim.worlds import GENERATORS, World, WorldError, generate, generate_hall, load_world, with_pedestrians
from sim.worlds_base import Mover, wall_between
from sim.worlds_plan import arrival_s, inflated_grid, shortest_route
from sim.worlds_track import generate_track

STATIC = {"clutter": GENERATORS["clutter"], "corridors": GENERATORS["corridors"], "offices": GENERATORS["offices"]}
STATIC["hall"] = generate_hall
ROBOT_M = 0.3  # a disc a little under what the generators allow for: their grids are not these


def signature(world: World) -> tuple[object, ...]:
    movers = [(m.radius_m, m.times_s.tobytes(), m.points_m.tobytes()) for m in world.movers]
    still = world.cylinders_m.tobytes(), world.walls_m.tobytes()
    return (world.name, *still, movers, world.start, world.goal_m, world.path_length_m)


def gap_m(world: World, points: Floats) -> Floats:
    """Distance of each point to the nearest thing that stands, written apart from the planner. # (N, 2) -> (N,)"""
    gaps = np.full(len(points), np.inf)
    for x, y, radius in world.cylinders_m:
        gaps = np.minimum(gaps, np.hypot(points[:, 0] - x, points[:, 1] - y) - radius)
    for x, y, length, thickness, yaw in world.walls_m:
        turn = np.exp(-1j * yaw) * ((points[:, 0] - x) + 1j * (points[:, 1] - y))
        off = np.maximum(np.abs([turn.real, turn.imag]) - [[length], [thickness]], 0.0)
        gaps = np.minimum(gaps, np.hypot(*off))
    return gaps


def solvable(world: World, radius_m: float, pitch_m: float = 0.1) -> bool:
    """Whether a disc gets from start to goal: a flood fill, written apart from the generators' own search."""
    low = np.minimum(world.start[:2], world.goal_m) - 4.0
    high = np.maximum(world.start[:2], world.goal_m) + 4.0
    xs, ys = (np.arange(low[k], high[k], pitch_m) for k in (0, 1))
    points = np.stack(np.meshgrid(xs, ys, indexing="ij"), axis=-1).reshape(-1, 2)
    free = (gap_m(world, points) > radius_m).reshape(len(xs), len(ys))
    reached = np.zeros_like(free)
    reached[np.abs(xs - world.start[0]).argmin(), np.abs(ys - world.start[1]).argmin()] = True
    goal = np.abs(xs - world.goal_m[0]).argmin(), np.abs(ys - world.goal_m[1]).argmin()
    while True:
        grown = reached.copy()
        grown[1:] |= reached[:-1]
        grown[:-1] |= reached[1:]
        grown[:, 1:] |= reached[:, :-1]
        grown[:, :-1] |= reached[:, 1:]
        grown &= free
        if grown[goal] or np.array_equal(grown, reached):
            return bool(grown[goal])
        reached = grown


@pytest.mark.parametrize(("kind", "difficulty"), list(itertools.product(STATIC, (0.0, 1.0, None))))
def test_a_seed_always_gives_the_same_world_and_a_disc_of_the_robots_size_gets_through_it(
    kind: str, difficulty: float | None
) -> None:
    for seed in range(2):
        world = STATIC[kind](seed, difficulty)
        assert signature(world) == signature(STATIC[kind](seed, difficulty))
        assert signature(world) != signature(STATIC[kind](seed + 100, difficulty))
        assert solvable(world, ROBOT_M), world.name
        ends = np.array([world.start[:2], world.goal_m])
        assert np.all(gap_m(world, ends) > ROBOT_M)
        assert math.dist(*ends) * 0.95 < world.path_length_m < 4.0 * math.dist(*ends)


def widest_m(world: World) -> float:
    """Radius of the largest disc that the planner still gets through, to 5 cm: what a robot feels as narrow."""
    ends = (world.start[:2], world.goal_m)
    for fits in np.arange(0.25, 1.2, 0.05):
        grid = inflated_grid(world.cylinders_m, world.walls_m, ends, fits, 0.12)
        if shortest_route(grid, *ends) is None:
            break
    return float(fits)


@pytest.mark.parametrize("kind", ["clutter", "corridors", "offices"])
def test_harder_worlds_are_narrower(kind: str) -> None:
    widths = [np.mean([widest_m(generate(kind, seed, level)) for seed in range(3)]) for level in (0.0, 0.5, 1.0)]
    assert widths[0] > widths[2] + 0.1
    assert widths[0] + 0.03 > widths[1] > widths[2] - 0.03


def test_harder_pedestrians_are_more_and_faster_and_never_above_the_stated_speed() -> None:
    easy, hard = ([generate("pedestrians", seed, level) for seed in range(6)] for level in (0.0, 1.0))
    for worlds, count, fastest in ((easy, 1, 0.4), (hard, 6, 1.2)):
        speeds = [mover.speed_mps_max for world in worlds for mover in world.movers]
        assert len(speeds) >= 0.8 * count * len(worlds)
        assert 0.3 * fastest - 1e-9 <= min(speeds) and max(speeds) <= fastest + 1e-9
    names = {world.name.split("_")[0] for world in hard + easy}
    assert len(names) >= 2 and {world.name.rsplit("_", 1)[1] for world in hard} == {"pedestrians"}
    assert signature(hard[0]) == signature(generate("pedestrians", 0, 1.0))


def test_pedestrians_walk_where_there_is_room_and_do_not_set_out_at_the_robot() -> None:
    for seed in range(4):
        world = generate("pedestrians", seed, 0.8)
        for mover in world.movers:
            places = np.array([mover.position_m(t) for t in np.arange(0.0, 60.0, 0.25)])
            assert np.all(gap_m(world, places) > mover.radius_m - 0.08)
            assert math.dist(places[0], world.start[:2]) > 2.0
            meeting = replace(world, goal_m=mover.position_m(0.0))
            assert solvable(meeting, mover.radius_m - 0.05)  # not behind a wall
            steps = np.linalg.norm(np.diff(places, axis=0), axis=1)
            assert np.all(steps <= mover.speed_mps_max * 0.25 + 1e-9)
            assert np.ptp(places, axis=0).max() > 1.0


def test_a_disc_that_knows_the_walks_gets_to_the_goal_among_the_pedestrians_of_any_world() -> None:
    world = with_pedestrians(generate("offices", 3, 0.2), 11, 1.0)
    assert len(world.movers) > 2
    ends = (world.start[:2], world.goal_m)
    grid = inflated_grid(world.cylinders_m, world.walls_m, ends, ROBOT_M)
    arrived = arrival_s(grid, world.movers, *ends, ROBOT_M, 1.0, 60.0)
    assert arrived is not None and arrived >= math.dist(*ends) / 1.0 - 0.2


def corridor(*more: tuple[float, float, float, float, float]) -> Floats:
    """Walls of a corridor along x from -1 to 9, 1 m wide, closed at its ends."""
    ends = [wall_between((x, -0.6), (x, 0.6), 0.1) for x in (-1.0, 9.0)]
    return np.array(
        [wall_between((-1, 0.55), (9, 0.55), 0.1), wall_between((-1, -0.55), (9, -0.55), 0.1), *ends, *more]
    )


def test_the_planner_finds_the_straight_way_and_none_through_a_wall_or_a_gap_that_is_too_narrow() -> None:
    start, goal = (0.0, 0.0), (8.0, 0.0)
    open_grid = inflated_grid(np.zeros((0, 3)), corridor(), (start, goal), 0.34)
    route = shortest_route(open_grid, start, goal)
    assert route is not None and route.length_m == pytest.approx(8.0, abs=0.2)
    assert np.abs(route.points_m[:, 1]).max() < 0.2
    shut = inflated_grid(np.zeros((0, 3)), corridor(wall_between((4, -0.5), (4, 0.5), 0.1)), (start, goal), 0.34)
    assert shortest_route(shut, start, goal) is None
    assert shortest_route(inflated_grid(np.zeros((0, 3)), corridor(), (start, goal), 0.52), start, goal) is None


def test_in_space_and_time_an_oncoming_mover_that_fills_the_corridor_is_no_way_and_one_that_leaves_is_waited_for() -> (
    None
):
    start, goal, nothing = (0.0, 0.0), (8.0, 0.0), np.zeros((0, 3))
    grid = inflated_grid(nothing, corridor(), (start, goal), 0.3)
    assert arrival_s(grid, (), start, goal, 0.3, 1.0, 20.0) == pytest.approx(8.0, abs=0.4)
    oncoming = Mover.along(0.4, np.array([[7.0, 0.0], [-0.5, 0.0]]), 0.5)
    assert arrival_s(grid, (oncoming,), start, goal, 0.3, 1.0, 60.0) is None
    hall = np.array([wall_between((-1, y), (9, y), 0.1) for y in (-4.0, 4.0)])
    wide = inflated_grid(nothing, np.concatenate([corridor(), hall])[4:], (start, goal), 0.3)
    crossing = Mover(0.4, np.array([0.0, 5.0, 10.0]), np.array([[2.0, 0.0], [2.0, 0.0], [2.0, 3.5]]))
    assert arrival_s(grid, (crossing,), start, goal, 0.3, 1.0, 60.0) > 11.0  # it has to be let out of the way
    assert arrival_s(wide, (crossing,), start, goal, 0.3, 1.0, 60.0) < 11.0  # there it can be passed
    assert arrival_s(grid, (), start, goal, 0.3, 1.0, 2.0) is None


def test_scenes_to_track_repeat_by_seed_and_their_obstacle_is_on_the_path_when_the_reference_is() -> None:
    for seed in range(6):
        world = generate_track(seed, 0.3, 40.0, 0.9)
        assert signature(world) == signature(generate_track(seed, 0.3, 40.0, 0.9))
        path_m = world.route.points_m
        (mover,) = world.movers
        times = np.arange(0.0, 40.0, 0.1)
        reference = path_m[np.minimum((times * 0.3 / 0.1).astype(int), len(path_m) - 1)]
        away = [math.dist(mover.position_m(t), point) for t, point in zip(times, reference, strict=True)]
        assert min(away) < 0.3  # who follows blindly is hit
        assert away[0] > 0.84  # but not at once
        assert np.allclose(np.linalg.norm(np.diff(path_m, axis=0), axis=1), 0.1, atol=0.005)
        assert gap_m(world, path_m).min() > 1.0
        assert all(gap_m(world, np.array([mover.position_m(t)]))[0] > -0.2 for t in times)


def test_harder_scenes_to_track_sway_more_and_their_obstacles_are_faster() -> None:
    worlds = [[generate_track(seed, 0.3, 40.0, level) for seed in range(6)] for level in (0.0, 1.0)]
    sway = [np.mean([np.ptp(world.route.points_m[:, 1]) for world in group]) for group in worlds]
    speed = [np.mean([world.movers[0].speed_mps_max for world in group]) for group in worlds]
    assert sway[0] == 0.0 and sway[1] > 0.3
    assert speed[1] > 1.5 * speed[0]


def test_a_scene_whose_way_is_too_short_to_avoid_anything_is_refused() -> None:
    with pytest.raises(WorldError, match=r"no scene of 0.02 m/s for 10 s"):
        generate_track(0, 0.02, 10.0)


@pytest.mark.parametrize("kind", ["corridors", "offices", "pedestrians", "mix", "track"])
def test_generated_worlds_are_loaded_by_name(kind: str) -> None:
    assert signature(load_world(f"{kind}:5")) == signature(generate(kind, 5))
    assert signature(load_world(f"{kind}:5:0.25")) == signature(generate(kind, 5, 0.25))


@pytest.mark.parametrize("text", ["offices:", "offices:1:hard", "offices:1:2", "offices:1:-0.1", "offices:1:nan"])
def test_a_generated_worlds_name_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(WorldError, match="offices"):
        load_world(text)


@pytest.mark.parametrize(("kind", "seed"), [("maze", 1), ("clutter", -1)])
def test_an_unknown_kind_or_a_negative_seed_is_refused(kind: str, seed: int) -> None:
    with pytest.raises(WorldError, match=kind):
        generate(kind, seed)
