"""``dsac-robot up`` and ``dsac-robot demo``: what a user starts, on the real graph, as their own bags tell it."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from rclpy.context import Context

from dsac_robot.apps.report_data import read_recording
from dsac_robot.apps.report_facts import facts_of, shown
from dsac_robot.apps.report_notes import Expect
from tests.loop.graph import ROOT, Graph

COMMAND = (sys.executable, "-m", "dsac_robot.apps.cli")
END_S = 60.0  # for a machine under load


def dsac_robot(arguments: Sequence[object]) -> subprocess.Popen[str]:
    command = [*COMMAND, *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=subprocess.STDOUT, text=True, start_new_session=True)


@pytest.fixture
def up() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts commands; whatever still runs at the end is ended."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: object) -> subprocess.Popen[str]:
        started.append(dsac_robot(arguments))
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=END_S)


@pytest.mark.slow
@pytest.mark.parametrize("how", [(), ("--processes",)], ids=["composed", "processes"])
def test_up_drives_a_simulated_robot_in_its_namespace_and_ends_on_ctrl_c(
    up: Callable[..., subprocess.Popen[str]], context: Context, straight_on: Path, tmp_path: Path, how: tuple[str, ...]
) -> None:
    graph = Graph(context)
    listener = graph.listen("robot7")
    process = up(
        *("up", "--sim", "--world", "empty", "--bundle", straight_on, "--allow-unsigned"),
        *("--namespace", "robot7", "--guard-profile", "static", "--record", tmp_path / "bags", *how),
    )
    graph.until(lambda: bool(listener.truth) and listener.truth[-1].x_m > 8.0, "most of the way driven")
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=END_S)
    assert process.returncode == 0, output
    assert "up in /robot7: recorder, sim_bridge, safety_guard, ood_monitor, policy" in output
    assert "Traceback" not in output
    (bag,) = (tmp_path / "bags").iterdir()
    recording = read_recording(bag)
    assert facts_of(recording.runs[0], recording.robot).path_m > 0.9
    assert recording.context["bundle"]["message"] == "straight_on"


@pytest.mark.parametrize("how", [(), ("--processes",)], ids=["composed", "processes"])
def test_up_names_the_world_that_there_is_not(straight_on: Path, how: tuple[str, ...]) -> None:
    process = dsac_robot(["up", "--sim", "--world", "maze", "--bundle", straight_on, "--allow-unsigned", *how])
    output, _ = process.communicate(timeout=END_S)
    assert process.returncode == 2
    assert "unknown world 'maze'" in output


def test_up_refuses_a_bundle_whose_signature_nobody_trusts(straight_on: Path) -> None:
    process = dsac_robot(["up", "--sim", "--world", "empty", "--bundle", straight_on])
    output, _ = process.communicate(timeout=END_S)
    assert process.returncode == 2
    assert "trusted" in output


@pytest.mark.slow
def test_the_quick_demo_shows_a_drive_and_a_killed_policy(straight_on: Path, tmp_path: Path) -> None:
    out = tmp_path / "demo"
    arguments = ["demo", "--quick", "--worlds", "empty", "--bundle", straight_on, "--allow-unsigned", "--out", out]
    process = dsac_robot(arguments)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    (bag,) = out.glob("bag_*")
    assert output.splitlines()[-2:] == [f"bag     {bag}", f"report  {out / 'report.html'}"]
    recording = read_recording(bag)
    assert [run.expect for run in recording.runs] == [Expect.GOAL, Expect.REST]
    for run in recording.runs:
        assert shown(run, facts_of(run, recording.robot)).ok
    assert (out / "report.html").stat().st_size > 100_000
