"""``dsac-robot bench sim``: every promised figure is measured, by a script and against its target."""

import json
from pathlib import Path

import numpy as np
import pytest

from dsac_robot.apps.bench_sim import shipped_robots
from dsac_robot.apps.cli import main
from dsac_robot.core.robot import load_robot
from sim.benchmark import against_bare, drive_episode, make_env, worlds_of


def test_every_promised_figure_is_measured_and_held_against_its_target(tmp_path: Path) -> None:
    out = tmp_path / "sim.json"
    assert main(["bench", "sim", "--seconds", "0.2", "--json", str(out)]) == 0
    figures = {row["name"]: row for row in json.loads(out.read_text(encoding="utf-8"))["figures"]}
    targets = {"env_over_bare": 0.45, "two_processes_over_one": 1.8}
    for name in shipped_robots():
        targets[f"realtime_factor_{name}"] = 40.0 if load_robot(name).base.drive == "skid_steer" else 100.0
        targets[f"time_step_difference_{name}_at_5_ms"] = 0.02
    assert {name: figures[name]["target"] for name in targets} == targets
    assert all(np.isfinite(row["value"]) and row["value"] > 0.0 for row in figures.values())


def test_the_driver_of_the_benchmark_drives() -> None:
    env = make_env(load_robot("jackal"), worlds_of(None)[:1])
    episode = drive_episode(env, np.random.default_rng(0))
    assert episode.sim_s > 2.0
    x, y, _ = env.sim.pose
    start = env.world.start
    assert np.hypot(x - start[0], y - start[1]) > 1.5


def test_the_bare_physics_are_not_slower_than_the_environment_on_top_of_them() -> None:
    turns = against_bare(make_env(load_robot("jackal"), worlds_of(None)[:2]), 0.5)
    assert np.median(turns["env_x"] / turns["bare_x"]) < 1.0
    assert np.median(turns["env_x"]) > 1.0


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--seconds", "0"], "[0.2, 600]"),
        (["--robot", "no_such_robot"], "no_such_robot"),
        (["--worlds", "no_such_folder"], "no_such_folder"),
    ],
)
def test_bad_input_ends_with_status_2_and_is_named(
    arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "sim", *arguments]) == 2
    assert named in capsys.readouterr().err
