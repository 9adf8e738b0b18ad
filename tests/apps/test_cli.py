"""The command line: help is quick and says what there is, bad input is answered in a sentence."""

import subprocess
import sys
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


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_says_how_it_is_used(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert f"usage: dsac-robot {command}" in capsys.readouterr().out


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
