"""Worlds: reproducible and solvable clutter, BARN's layout, and refusals that name the file."""

import itertools
import math
import tarfile
from pathlib import Path

import numpy as np
import pytest

from sim.worlds import (
    BARN_START,
    World,
    WorldError,
    barn_ids,
    empty_world,
    generate_clutter,
    load_world,
    pooled_clutter,
    read_barn_world,
)

ARCHIVE = Path(__file__).resolve().parents[3] / "shared" / "barn" / "barn_dev_worlds.tar.xz"
ARCHIVED = (1, 299)

MODEL = """<model name='unit_cylinder_{n}'><static>1</static><pose frame=''>{x} {y} 0 0 0 0</pose><link name='link'>
<collision name='collision'><geometry><cylinder><radius>{radius}</radius><length>1</length></cylinder></geometry>
</collision></link></model>"""
GROUND = """<model name='ground_plane'><link name='link'><collision name='c'><geometry><plane><size>9 9</size></plane>
</geometry></collision></link></model>"""
CYLINDERS = [(-4.5, 5.0, 0.075), (0.3, 7.25, 0.075), (-3.0, 11.0, 0.1)]
CELLS = [(17, 0), (17, 20), (18, 21), (17, 30)]  # column, row: x = -2.025, y from 5.075


def write_barn(folder: Path, models: str, cells: object = CELLS, number: int = 7) -> Path:
    """A folder in BARN's layout with one world."""
    (folder / "path_files").mkdir(parents=True, exist_ok=True)
    (folder / f"world_{number}.world").write_text(f"<sdf version='1.6'><world name='w'>{models}</world></sdf>")
    np.save(folder / "path_files" / f"path_{number}.npy", np.array(cells))
    return folder


def self_written(folder: Path) -> Path:
    models = [MODEL.format(n=n, x=x, y=y, radius=radius) for n, (x, y, radius) in enumerate(CYLINDERS)]
    return write_barn(folder, GROUND + "".join(models))


def barn_folders(tmp_path: Path) -> list[Path]:
    """A folder that the test wrote itself, and two worlds of the development archive where that is at hand."""
    folders = [self_written(tmp_path / "written")]
    if ARCHIVE.is_file():
        names = [f"BARN/world_{n}.world" for n in ARCHIVED] + [f"BARN/path_files/path_{n}.npy" for n in ARCHIVED]
        with tarfile.open(ARCHIVE) as archive:
            for member in archive:
                if member.name in names:
                    archive.extract(member, tmp_path, filter="data")
        folders.append(tmp_path / "BARN")
    return folders


def clearance_m(world: World, x: float, y: float) -> float:
    return float((np.hypot(world.cylinders_m[:, 0] - x, world.cylinders_m[:, 1] - y) - world.cylinders_m[:, 2]).min())


def solvable(world: World, radius_m: float, pitch_m: float = 0.1) -> bool:
    """Whether a disc gets from start to goal: a flood fill, written apart from the generator's own search."""
    xs, ys = np.arange(-6.0, 6.0, pitch_m), np.arange(-4.0, 12.0, pitch_m)
    gap = np.full((len(xs), len(ys)), np.inf)
    for x, y, radius in world.cylinders_m:
        gap = np.minimum(gap, np.hypot(xs[:, None] - x, ys[None] - y) - radius)
    free = gap > radius_m
    reached = np.zeros_like(free)
    reached[np.abs(xs - world.start[0]).argmin(), np.abs(ys - world.start[1]).argmin()] = True
    while True:
        grown = reached.copy()
        grown[1:] |= reached[:-1]
        grown[:-1] |= reached[1:]
        grown[:, 1:] |= reached[:, :-1]
        grown[:, :-1] |= reached[:, 1:]
        grown &= free
        if np.array_equal(grown, reached):
            break
        reached = grown
    return bool(reached[np.abs(xs - world.goal_m[0]).argmin(), np.abs(ys - world.goal_m[1]).argmin()])


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_a_seed_always_gives_the_same_world_and_a_disc_of_the_robots_width_gets_through_it(seed: int) -> None:
    world, again = generate_clutter(seed), generate_clutter(seed)
    assert world.cylinders_m.tobytes() == again.cylinders_m.tobytes()
    assert (world.start, world.goal_m, world.path_length_m) == (again.start, again.goal_m, again.path_length_m)
    assert solvable(world, 0.22)
    assert clearance_m(world, *world.start[:2]) > 0.4
    assert clearance_m(world, *world.goal_m) > 0.22
    straight = math.hypot(world.goal_m[0] - world.start[0], world.goal_m[1] - world.start[1])
    assert straight - 0.3 <= world.path_length_m < 3.0 * straight


def test_different_seeds_give_different_worlds() -> None:
    assert len({generate_clutter(seed).cylinders_m.tobytes() for seed in range(5)}) == 5


def test_the_pool_gives_the_generators_worlds_and_repeats_after_its_size() -> None:
    assert pooled_clutter(3).cylinders_m.tobytes() == generate_clutter(3).cylinders_m.tobytes()
    assert pooled_clutter(3 + 4096) is not None
    assert pooled_clutter(3 + 4096).name == "clutter_3"


def test_the_empty_world_has_a_free_straight_line_to_its_goal() -> None:
    world = empty_world((6.0, 0.0))
    assert all(clearance_m(world, x, 0.0) > 2.0 for x in np.linspace(0.0, 6.0, 13))
    assert empty_world(walls=False).cylinders_m.shape == (0, 3)


def test_barn_worlds_are_read_with_start_goal_and_path(tmp_path: Path) -> None:
    for folder in barn_folders(tmp_path):
        for number in barn_ids(folder):
            world = read_barn_world(folder, number)
            assert world.name == f"barn_{number}"
            assert world.start == BARN_START and world.goal_m == (-2.0, 13.0)
            assert world.cylinders_m.shape[1] == 3 and np.all(world.cylinders_m[:, 2] > 0.0)
            assert clearance_m(world, *world.start[:2]) > 0.3
            assert 9.9 < world.path_length_m < 20.0


def test_a_self_written_barn_world_gives_back_what_was_written(tmp_path: Path) -> None:
    folder = self_written(tmp_path)
    world = read_barn_world(folder, 7)
    np.testing.assert_allclose(world.cylinders_m, CYLINDERS)
    points = [(-2.0, 3.0), *((c * 0.15 - 4.575, r * 0.15 + 5.075) for c, r in CELLS), (-2.0, 13.0)]
    assert world.path_length_m == pytest.approx(sum(math.dist(a, b) for a, b in itertools.pairwise(points)))
    assert barn_ids(folder) == (7,)


@pytest.mark.parametrize(
    ("models", "says"),
    [
        ("", "no model is a cylinder"),
        (GROUND, "no model is a cylinder"),
        (MODEL.format(n=3, x="left", y=1, radius=0.1), "unit_cylinder_3"),
        (MODEL.format(n=3, x="", y="", radius=0.1).replace("0 0 0 0", ""), "unit_cylinder_3"),
        (MODEL.format(n=3, x=1, y=1, radius="wide"), "unit_cylinder_3"),
        (MODEL.format(n=3, x=1, y=1, radius=-0.1), "unit_cylinder_3': radius = '-0.1' must be .* above 0"),
        (MODEL.format(n=3, x="nan", y=1, radius=0.1), "unit_cylinder_3': pose = 'nan 1 .*finite"),
        ("</world>", "cannot be read as SDF"),
    ],
)
def test_a_malformed_world_file_is_refused_by_name(tmp_path: Path, models: str, says: str) -> None:
    with pytest.raises(WorldError, match=says) as error:
        read_barn_world(write_barn(tmp_path, models), 7)
    assert "world_7.world" in str(error.value)


@pytest.mark.parametrize("cells", [[1.0, 2.0], [[1.0, 2.0, 3.0]], [[math.nan, 0.0]], 5])
def test_a_malformed_path_file_is_refused_by_name(tmp_path: Path, cells: object) -> None:
    folder = write_barn(tmp_path, MODEL.format(n=0, x=0, y=5, radius=0.1), cells)
    with pytest.raises(WorldError, match=r"path_7\.npy.*\(P, 2\)"):
        read_barn_world(folder, 7)


def test_absent_files_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(WorldError, match=r"world_8\.world"):
        read_barn_world(self_written(tmp_path), 8)
    (tmp_path / "path_files" / "path_7.npy").unlink()
    with pytest.raises(WorldError, match=r"path_7\.npy"):
        read_barn_world(tmp_path, 7)
    with pytest.raises(WorldError, match="no world_N"):
        barn_ids(tmp_path / "path_files")


def test_a_file_that_is_no_sdf_world_or_no_array_is_refused_by_name(tmp_path: Path) -> None:
    folder = self_written(tmp_path)
    (folder / "path_files" / "path_7.npy").write_bytes(b"not an array")
    with pytest.raises(WorldError, match=r"path_7\.npy"):
        read_barn_world(folder, 7)
    (folder / "world_7.world").write_text("<sdf version='1.6'/>")
    with pytest.raises(WorldError, match=r"world_7\.world.*no <world>"):
        read_barn_world(folder, 7)


def test_worlds_are_loaded_by_name(tmp_path: Path) -> None:
    assert load_world("clutter:3").name == "clutter_3"
    assert load_world("empty").name == "empty"
    assert load_world(f"barn:{self_written(tmp_path)}:7").name == "barn_7"


@pytest.mark.parametrize("text", ["", "clutter", "clutter:x", "clutter:-1", "barn:7", "barn::7", "barn:d:x", "maze:1"])
def test_an_unknown_world_name_is_refused_with_the_forms_there_are(text: str) -> None:
    with pytest.raises(WorldError, match="clutter:SEED"):
        load_world(text)
