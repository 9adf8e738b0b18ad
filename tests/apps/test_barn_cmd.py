"""The BARN command: it scores by the rules, goes on where it was left, refuses to mix, and shows failed runs."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dsac_robot.apps.barn_cmd import parse_ids
from dsac_robot.apps.barn_runs import Run, figures_of, score_of
from dsac_robot.apps.barn_store import by_world
from dsac_robot.apps.cli import main
from dsac_robot.core.params import ParameterError

WALLED_IN = 2  # a world without a way out


def write_world(folder: Path, number: int, posts: list[tuple[float, float]]) -> None:
    """A world in BARN's layout with posts of 7.5 cm, and a straight path through it."""
    model = (
        "<model name='p{0}'><pose>{1} {2} 0 0 0 0</pose><link name='l'><collision name='c'><geometry><cylinder>"
        "<radius>0.075</radius></cylinder></geometry></collision></link></model>"
    )
    models = "".join(model.format(i, x, y) for i, (x, y) in enumerate(posts))
    (folder / f"world_{number}.world").write_text(f"<sdf version='1.6'><world name='w'>{models}</world></sdf>")
    (folder / "path_files").mkdir(exist_ok=True)
    np.save(folder / "path_files" / f"path_{number}.npy", np.array([[17, row] for row in range(30)]))


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("BARN")
    sides = [(x, y) for x in (-4.5, 0.5) for y in np.arange(2.0, 14.0, 0.5)]
    ring = [(-2.0 + 0.9 * np.cos(a), 3.0 + 0.9 * np.sin(a)) for a in np.arange(40) * np.pi / 20]
    write_world(folder, 1, sides)
    write_world(folder, WALLED_IN, sides + ring)
    return folder


def barn(worlds: Path, *more: str) -> int:
    return main(["barn", "--worlds", str(worlds), "--processes", "1", *more])


def test_a_benchmark_goes_on_where_it_was_left_and_leaves_tables_and_a_picture_of_the_failed_run(
    worlds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, report = tmp_path / "out", tmp_path / "barn.json"
    assert barn(worlds, "--ids", "2", "--trials", "1", "--out", str(out)) == 0
    lines = (out / "runs.jsonl").read_text().splitlines()
    assert len(lines) == 2
    (picture,) = (out / "failed").iterdir()
    assert picture.name == "world_2_trial_0_timeout.png"
    (out / "runs.jsonl").write_text("\n".join([*lines, '{"world": 1, "tri']))  # killed while it wrote
    assert barn(worlds, "--trials", "1", "--out", str(out), "--json", str(report)) == 0
    assert "1 runs are in" in capsys.readouterr().err
    assert (out / "runs.jsonl").read_text().splitlines()[:2] == lines
    content = json.loads(report.read_text())
    assert [(r["world"], r["outcome"]) for r in content["results"]] == [(1, "success"), (2, "timeout")]
    assert {f["name"]: f["value"] for f in content["figures"]}["success_rate"] == 0.5
    assert [row["world"] for row in content["worlds"]] == [2, 1]  # the worst first
    with (out / "worlds.csv").open() as file:
        assert [row["success_rate"] for row in csv.DictReader(file)] == ["0.0", "1.0"]


def test_runs_of_another_guard_are_not_mixed_in(
    worlds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert barn(worlds, "--ids", "1", "--trials", "1", "--out", str(tmp_path)) == 0
    assert barn(worlds, "--ids", "1", "--trials", "2", "--guard", "off", "--out", str(tmp_path)) == 2
    assert "holds runs with guard" in capsys.readouterr().err


BAD = [
    (["--ids", "7"], "no world 7"),
    (["--ids", "x"], "neither a number"),
    (["--trials", "0"], "--trials 0"),
    (["--ros", "--guard", "off"], "--ros"),
    (["--ros", "--policy", "dwa"], "--ros"),
    (["--policy", "teb"], "'teb'"),
    (["--robot", "burger"], "does not fit robot 'burger'"),
    (["no_such_bundle"], "no_such_bundle"),
]


@pytest.mark.parametrize(("options", "says"), BAD, ids=[says for _, says in BAD])
def test_what_cannot_be_run_is_refused_by_name(
    worlds: Path, options: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert barn(worlds, *options) == 2
    assert says in capsys.readouterr().err


def test_a_folder_of_something_else_is_refused(
    worlds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "runs.jsonl").write_text("hello\n")
    assert barn(worlds, "--out", str(tmp_path)) == 2
    assert "damaged" in capsys.readouterr().err


def test_ranges_of_worlds_are_read() -> None:
    assert parse_ids("1,5,10-12") == (1, 5, 10, 11, 12)
    with pytest.raises(ParameterError, match="'-3'"):
        parse_ids("-3")


@pytest.mark.parametrize(
    ("success", "time_s", "score"),
    [
        (True, 1.0, 0.5),
        (True, 10.0, 0.5),
        (True, 20.0, 0.25),
        (True, 40.0, 0.125),
        (True, 99.0, 0.125),
        (False, 9.0, 0),
    ],
)
def test_the_score_is_that_of_the_benchmark(success: bool, time_s: float, score: float) -> None:
    assert score_of(success, time_s, 5.0) == pytest.approx(score)


def test_figures_and_table_count_what_happened() -> None:
    run = Run(3, 0, "success", 0.5, 8.0, 1.5, False, 10.0, 0.0, 0.0, 0, 0, {})
    runs = [run, replace(run, trial=1, outcome="contact", score=0.0, caused=True), replace(run, world=1)]
    figures = {figure.name: figure for figure in figures_of(runs)}
    assert figures["collision_rate"].value == pytest.approx(1 / 3)
    assert (figures["caused_contacts"].value, figures["caused_contacts"].ok) == (1, False)
    assert figures["score_mean"].value == pytest.approx(1 / 3)
    assert [(row["world"], row["contacts"], row["score_mean"]) for row in by_world(runs)] == [(3, 1, 0.25), (1, 0, 0.5)]
