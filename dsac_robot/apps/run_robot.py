"""The robot that a training run is of: a file in its folder, so that no later command takes another one for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dsac_robot.apps.run_record import FILE, read_record
from dsac_robot.core.files import dump_yaml
from dsac_robot.core.params import ParameterError, as_dict
from dsac_robot.core.robot import Robot, load_robot

ROBOT_FILE = "robot.yaml"
SHOWN_MAX = 5  # differences named in a message


def keep_robot(folder: Path, robot: Robot) -> None:
    """Write the robot's description into the run's folder."""
    (folder / ROBOT_FILE).write_text(dump_yaml(as_dict(robot)), encoding="utf-8")


def robot_of_run(folder: Path, given: str | None) -> str:
    """The robot file, or name, to load for a run: its own without ``given``, else that.

    Raises ParameterError where ``given`` is a robot of another name, and where a run that an earlier release made
    (with the name of its robot alone) does not tell where its robot's file is.
    """
    kept = folder / ROBOT_FILE
    recorded = str(read_record(folder)["robot"]) if (folder / FILE).exists() else None
    if given is not None:
        own = load_robot(kept).name if kept.exists() else recorded
        if own is not None and load_robot(given).name != own:
            raise ParameterError(
                f"--robot {given}: {folder} was trained for robot {own!r}, not {load_robot(given).name!r}: "
                "leave --robot out, or train for the other robot"
            )
        return given
    if kept.exists():
        return str(kept)
    if recorded is None:
        raise ParameterError(f"{folder} does not say which robot it was trained for: give --robot")
    try:
        load_robot(recorded)
    except ParameterError as error:
        raise ParameterError(f"{folder} was trained for robot {recorded!r}: give its file with --robot") from error
    return recorded


def resumed_robot(folder: Path, given: str | None) -> Robot:
    """The robot to continue a run with. Raises ParameterError naming what differs from the one that it began with."""
    robot, kept = load_robot(robot_of_run(folder, given)), folder / ROBOT_FILE
    if kept.exists():
        began = load_robot(kept)
        differing = differences(as_dict(began), as_dict(robot))
        if differing:
            more = f" and {len(differing) - SHOWN_MAX} more" if len(differing) > SHOWN_MAX else ""
            raise ParameterError(
                f"--robot {given}: not the robot that {folder} began with: {'; '.join(differing[:SHOWN_MAX])}{more}; "
                "leave --robot out to continue, or train the changed robot into another --out"
            )
    return robot


def differences(before: dict[str, Any], after: dict[str, Any], where: str = "") -> list[str]:
    """Each field that differs between two robots, as ``section.field: it began with X, now Y``."""
    found: list[str] = []
    for name, value in before.items():
        if isinstance(value, dict):
            found += differences(value, after[name], f"{where}{name}.")
        elif value != after[name]:
            found.append(f"{where}{name}: it began with {value}, now {after[name]}")
    return found
