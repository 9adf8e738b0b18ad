"""BARN through the real graph: the very nodes drive a world to its goal, and the simulator's truth judges."""

import json
from pathlib import Path

import pytest

from dsac_robot.apps.cli import main
from tests.apps.test_barn_cmd import write_world

pytestmark = pytest.mark.loop


def test_a_world_is_driven_to_its_goal_through_the_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    write_world(tmp_path, 1, [(x, y) for x in (-4.5, 0.5) for y in (3.0, 5.0, 7.0, 9.0)])
    report = tmp_path / "barn.json"
    options = ["--trials", "1", "--ros", "--out", str(tmp_path / "out"), "--json", str(report)]
    assert main(["barn", "--worlds", str(tmp_path), *options]) == 0
    content = json.loads(report.read_text())
    (run,) = content["results"]
    assert run["outcome"] == "success"
    assert 5.0 < run["time_s"] < 60.0
    assert run["path_m"] > 8.5
    assert content["ros"] is True
