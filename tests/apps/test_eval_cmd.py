"""``dsac-robot eval``: figures of known episodes, and a small evaluation with the shipped bundle."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dsac_robot.apps.cli import main
from dsac_robot.apps.eval_cmd import RUNS_FILE, Episode, beyond_guard, guard_params
from dsac_robot.apps.eval_figures import summary
from dsac_robot.apps.eval_worlds import EvalWorlds, choose
from dsac_robot.bundle.deployed import load_bundle
from dsac_robot.core.files import share_path
from sim.family import load_family
from sim.worlds import load_world
from tests.apps.test_barn_cmd import write_world
from tests.bundle.follower import write_follower

FAMILY = load_family("jackal_wide")
RATES = ("success_rate", "collision_rate", "pace_mean")
STATIC = guard_params("static")


def episodes_of(paces: np.ndarray) -> list[Episode]:
    """Episodes of these paces; 0 is a contact at speed. # (episodes, instances)"""
    return [
        Episode(i, k, "success" if pace else "contact", min(pace, 0.5), float(pace), 10.0, not pace, 0, 0)
        for k, row in enumerate(paces)
        for i, pace in enumerate(row)
    ]


def test_the_interquartile_mean_leaves_out_the_best_and_the_worst_quarter() -> None:
    paces = np.array([[0.5, 0.0], [0.3, 0.2]])
    figures = {figure.name: figure.value for figure in summary(episodes_of(paces), ["a", "b"], [True, True]).figures}
    assert figures["pace_iqm"] == pytest.approx(0.25)
    assert figures["pace_mean"] == pytest.approx(0.25)
    assert figures["success_rate"] == figures["success_rate_low"] + 0.25  # b's two episodes are one of each
    assert figures["collision_rate"] == 0.25
    assert figures["pace_iqm_low"] <= 0.25 <= figures["pace_iqm_high"]


def test_the_worst_instance_is_named_and_the_nominal_one_reported() -> None:
    paces = np.tile([0.4, 0.1, 0.5], (5, 1))
    found = summary(episodes_of(paces), ["nominal", "corner 1", "inside 1"], [True] * 3)
    figures = {figure.name: figure.value for figure in found.figures}
    assert found.worst == "corner 1"
    assert figures["worst_pace_mean"] == pytest.approx(0.1)
    assert figures["nominal_pace_mean"] == pytest.approx(0.4)


def test_contacts_that_the_guard_should_have_prevented_are_counted_apart() -> None:
    paces = np.array([[0.5, 0.0, 0.0], [0.5, 0.0, 0.4]])
    found = summary(episodes_of(paces), ["nominal", "corner 1", "corner 2"], [True, False, True])
    figures = {figure.name: figure.value for figure in found.figures}
    assert figures["caused_contacts"] == 3
    assert figures["caused_contacts_guard_covers"] == 1


def test_the_performance_profile_is_the_share_of_episodes_above_each_pace() -> None:
    rng = np.random.default_rng(0)
    paces = rng.uniform(0.0, 0.5, (10, 4))
    profile = summary(episodes_of(paces), list("abcd"), [True] * 4).profile
    for threshold, share, low, high in zip(*(profile[key] for key in ("pace", "share", "low", "high")), strict=True):
        assert share == pytest.approx(np.mean(paces > threshold))
        assert low <= share <= high


def test_a_machine_that_breaks_what_the_guard_assumes_is_marked() -> None:
    nominal = FAMILY.representative(1)[0]
    assert beyond_guard(nominal, FAMILY, STATIC) == []
    slippery = FAMILY.instance("x", {"base.friction": 0.45, "actuation.action_delay_s": 0.09})
    said = beyond_guard(slippery, FAMILY, STATIC)
    assert len(said) == 2
    assert "4.4 m/s^2" in said[0]
    assert "guard counts on 0.160" in said[1]
    assert beyond_guard(slippery, FAMILY, None) == []


def test_an_evaluation_drives_every_instance_and_continues_where_it_stopped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, figures = tmp_path / "out", tmp_path / "figures.json"
    command = ["eval", "--family", "jackal_narrow", "--instances", "2", "--episodes", "2", "--time-limit", "3"]
    command += ["--processes", "1", "--out", str(out), "--json", str(figures)]
    assert main(command) == 0
    content = json.loads(figures.read_text(encoding="utf-8"))
    named = {figure["name"]: figure["value"] for figure in content["figures"]}
    assert named["instances"] == 2
    assert named["episodes"] == 4
    assert [row["name"] for row in content["instances"]] == ["nominal", "inside 1"]
    assert content["profile"] == "static"
    assert all(row["outcome"] == "timeout" for row in content["episodes"])  # 3 s do not reach any goal
    for picture in ("profile.png", "instances.png", "parameters.png"):
        assert (out / picture).read_bytes().startswith(b"\x89PNG")
    capsys.readouterr()

    # a stop in the middle of a line: what was whole is kept, and marked here to see that it is
    lines = (out / RUNS_FILE).read_text(encoding="utf-8").splitlines()
    kept = json.loads(lines[1]) | {"cautions": 12345}
    (out / RUNS_FILE).write_text("\n".join([lines[0], json.dumps(kept), lines[2][:20]]), encoding="utf-8")
    assert main(command) == 0
    again = json.loads(figures.read_text(encoding="utf-8"))["episodes"]
    assert [episode["cautions"] for episode in again].count(12345) == 1
    assert [e["outcome"] for e in again] == [e["outcome"] for e in content["episodes"]]
    capsys.readouterr()

    assert main([*command, "--guard", "off"]) == 2
    assert "another guard, monitor" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--family", "jackal_wild"], "jackal_wild"),
        (["--instances", "0"], "0 instances"),
        (["--episodes", "1"], "--episodes 1"),
        (["no_such_bundle"], "no_such_bundle"),
        (["--worlds", "clutter,moon"], "'moon'"),
        (["--worlds", ""], "names no world"),
        (["--worlds", "barn:no_such_folder"], "no_such_folder: no world_N.world"),
        (["--worlds", "offices", "--difficulty", "0.5", "2"], "--difficulty 0.5 2 must be LOW HIGH"),
    ],
)
def test_bad_input_is_named(arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", *arguments]) == 2
    assert named in capsys.readouterr().err


def test_a_bundle_for_another_robot_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from dsac_robot.core.files import dump_yaml
    from dsac_robot.core.params import as_dict

    nominal = FAMILY.nominal
    other = replace(nominal, name="other", base=replace(nominal.base, wheel_radius_m=0.12))
    (tmp_path / "other.yaml").write_text(dump_yaml(as_dict(other)), encoding="utf-8")
    family = tmp_path / "family.yaml"
    family.write_text(
        f"robot: {tmp_path / 'other.yaml'}\nranges:\n  base.friction: {{low: 0.5, high: 1.0}}\n", encoding="utf-8"
    )
    assert main(["eval", "--family", str(family)]) == 2
    assert "geometry.wheel_radius_m" in capsys.readouterr().err


def test_episodes_take_the_named_worlds_in_turn() -> None:
    worlds = EvalWorlds(("offices", "corridors:7:0.5", "track"), (0.9, 1.0))
    robot = FAMILY.nominal
    names = [worlds.world(k, robot).name for k in range(6)]
    assert names[1] == names[4] == load_world("corridors:7:0.5").name
    assert names[0] != names[3] and names[2] != names[5]
    assert [worlds.world(k, robot).route is not None for k in range(3)] == [False, False, True]
    slow = replace(robot, limits=replace(robot.limits, speed_mps_max=0.22))
    assert worlds.world(2, slow).route.speed_mps < 0.2


def test_the_worlds_of_a_barn_folder_are_driven_one_after_the_other(tmp_path: Path) -> None:
    (tmp_path / "path_files").mkdir()
    for number in (3, 11):
        write_world(tmp_path, number, [(1.0, 1.0)])
    worlds = EvalWorlds((f"barn:{tmp_path}", f"barn:{tmp_path}:11"))
    names = [worlds.world(k, FAMILY.nominal).name for k in range(6)]
    assert names == [load_world(f"barn:{tmp_path}:{number}").name for number in (3, 11, 11, 11, 3, 11)]


def test_a_bundle_of_track_is_evaluated_on_routes_and_refused_elsewhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = write_follower(tmp_path / "follower", FAMILY.nominal, None)
    command = ["eval", str(bundle), "--allow-unsigned", "--family", "jackal_narrow", "--instances", "1"]
    command += ["--processes", "1", "--episodes", "2", "--monitor", "off"]
    figures = tmp_path / "figures.json"
    easy = ["--difficulty", "0", "0", "--guard", "off", "--time-limit", "60"]
    assert main([*command, *easy, "--json", str(figures)]) == 0
    content = json.loads(figures.read_text(encoding="utf-8"))
    named = {figure["name"]: figure["value"] for figure in content["figures"]}
    outcomes = [episode["outcome"] for episode in content["episodes"]]
    assert set(outcomes) <= {"success", "contact"}  # it looks at nothing, and the obstacle is there when it is
    assert named["lateral_rms_m"] < 0.1 and named["speed_error_rms_mps"] < 0.1
    assert content["worlds"] == [{"worlds": "track", "episodes": 2.0} | {k: content["worlds"][0][k] for k in RATES}]
    capsys.readouterr()
    assert main([*command, "--worlds", "track,clutter"]) == 2
    assert "--worlds clutter: has no route, and bundle 'follower' follows one" in capsys.readouterr().err


def test_where_anything_moves_the_guard_expects_it(tmp_path: Path) -> None:
    bundle = load_bundle(share_path("config", "bundles", "navigate_jackal"))
    robot = FAMILY.nominal
    moving = {spec: choose(spec, None, bundle.card, robot)[1] for spec in ("clutter", "pedestrians", "mix", "offices")}
    assert moving == {"clutter": False, "pedestrians": True, "mix": True, "offices": False}
