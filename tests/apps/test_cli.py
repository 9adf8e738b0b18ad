"""The command line: help is quick and says what there is, bad input is answered in a sentence."""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from dsac_robot.apps.cli import COMMANDS as MODULES
from dsac_robot.apps.cli import main, parser

COMMANDS = (
    "train",
    "compare",
    "export",
    "bundle",
    "keys",
    "barn",
    "bag",
    "dataset",
    "offline",
    "up",
    "demo",
    "report",
    "eval",
    "identify",
    "robot",
    "replay",
    "view",
    "bench",
)
HEAVY = {"torch", "rclpy", "mujoco", "matplotlib", "onnxruntime", "rosbags", "gymnasium", "minari", "av"}


def test_every_command_is_there() -> None:
    text = parser().format_help()
    for command in COMMANDS:
        assert f"\n    {command} " in text


def loaded_by(*words: str) -> set[str]:
    """What a command line that ends the program imports."""
    program = (
        "import sys\n"
        "from dsac_robot.apps.cli import main\n"
        f"try:\n    main({list(words)!r})\n"
        "except SystemExit:\n    pass\n"
        "print('LOADED', *sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(result.stdout.splitlines()[-1].split())


def test_the_list_of_commands_imports_no_command_and_no_numpy() -> None:
    loaded = loaded_by("--help")
    assert not {f"dsac_robot.apps.{module}" for module in MODULES} & loaded
    assert "numpy" not in loaded


def test_a_command_imports_no_other_command() -> None:
    assert {name for name in loaded_by("replay", "--help") if name.endswith("_cmd")} == {"dsac_robot.apps.replay_cmd"}


def test_the_list_is_the_same_whether_commands_are_imported_or_not() -> None:
    assert parser("").format_help() == parser("train").format_help() == parser().format_help()


def test_the_help_of_each_command_imports_nothing_heavy() -> None:
    program = (
        "import sys\n"
        "from dsac_robot.apps.cli import main\n"
        f"for command in {COMMANDS!r}:\n"
        "    try:\n        main([command, '--help'])\n"
        "    except SystemExit as exit:\n        assert exit.code == 0, command\n"
        f"print('LOADED', sorted({HEAVY!r} & sys.modules.keys()))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "LOADED []"


@pytest.mark.parametrize("command", [name for commands in MODULES.values() for name in commands])
def test_the_help_of_a_command_says_how_it_is_used(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert f"usage: dsac-robot {command}" in said
    assert "``" not in said


def parsers_of(top: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """A parser and those of all its sub-commands."""
    yield top
    for action in top._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from parsers_of(below)


def test_no_help_of_any_sub_command_shows_the_marks_of_a_docstring() -> None:
    texts = {below.prog: below.format_help() for below in parsers_of(parser())}
    assert {"dsac-robot bundle build-engine", "dsac-robot bench guard", "dsac-robot robot new"} <= set(texts)
    assert {prog for prog, text in texts.items() if "``" in text or ":meth:" in text or ":class:" in text} == set()
    docstrings = [below.description or "" for below in parsers_of(parser())]
    assert any("``" in text for text in docstrings), "no docstring serves as help any more: the rule has no use"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "COMMAND"),
        (["fly"], "'fly'"),
        (["up", "--guard-profile", "brave"], "'brave'"),
        (["report"], "BAG"),
        (["demo", "--quickly"], "--quickly"),
    ],
)
def test_wrong_arguments_end_with_status_2_and_name_what_is_wrong(
    arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert named in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["up", "--robot", "unicycle"], "unicycle"),
        (["up", "--bundle", "no_such_bundle"], "no_such_bundle"),
        (["demo", "--bundle", "no_such_bundle"], "no_such_bundle"),
        (["report", "no_such_bag"], "no_such_bag"),
    ],
)
def test_bad_input_ends_with_status_2_and_names_it(
    arguments: list[str],
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert named in capsys.readouterr().err


def test_ctrl_c_ends_a_long_command_and_its_processes_with_one_sentence(tmp_path: Path) -> None:
    """The signal reaches the whole group, as from a terminal."""
    words = ["eval", "--worlds", "clutter", "--instances", "2", "--episodes", "200", "--out", str(tmp_path / "out")]
    command = [sys.executable, "-m", "dsac_robot.apps.cli", *words]
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # what a shell starts in the background ignores it
    running = subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True, preexec_fn=heard)
    try:
        kept = tmp_path / "out" / "runs.jsonl"
        deadline = time.monotonic() + 60.0
        while not (kept.exists() and kept.read_text(encoding="utf-8").count("\n") >= 3):
            assert running.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        os.killpg(running.pid, signal.SIGINT)
        said = running.communicate(timeout=30.0)[1]
    finally:
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)
    assert running.returncode == 130
    assert "Traceback" not in said and said.endswith("dsac-robot: stopped by Ctrl-C\n")
    with pytest.raises(ProcessLookupError):  # none of the group is left, soon (multiprocessing's tracker ends last)
        for _ in range(200):
            os.killpg(running.pid, 0)
            time.sleep(0.05)


def test_a_reader_that_has_enough_ends_a_command_in_silence(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        command = [sys.executable, "-m", "dsac_robot.apps.cli", "bundle", "schema"]
        ended = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60.0)
    finally:
        os.close(writer)
    assert (ended.returncode, ended.stderr) == (141, "")
