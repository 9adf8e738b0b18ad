"""``dsac-robot robot new | check``: write a robot file, and see whether it is one that drives."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dsac_robot.core.params import ParameterError

if TYPE_CHECKING:
    from dsac_robot.apps.figures import Figure
    from dsac_robot.core.robot import Robot
    from sim.robot_check import Compiled, TryOut

GRAVITY_MPS2 = 9.81
SPEED_RATIO = 0.95  # at least, of the speed that was asked for
TRACK_OFF = 0.15  # at most, of the declared effective track
WHEELS_DOWN = 0.95  # at least, of the time


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command ``robot``; its actions set ``run``, which returns the exit status."""
    robot = subparsers.add_parser("robot")
    actions = robot.add_subparsers(dest="action", required=True, metavar="ACTION")
    new = actions.add_parser("new", help="write a commented robot file to fill in")
    new.add_argument("name", metavar="NAME", help="the robot's name: letters, digits, _ and -")
    new.add_argument("--out", type=Path, metavar="FILE", help="where to (default: NAME.yaml here)")
    new.set_defaults(run=_new)
    check = actions.add_parser("check", help="validate a robot file, compile it, drive it and say what comes out")
    check.add_argument("robot", metavar="FILE", help="a .yaml file, or the name of a robot of config/robots")
    check.add_argument("--png", type=Path, metavar="FILE", help="draw it from above and from the side")
    check.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    check.add_argument("--strict", action="store_true", help="exit status 1 where it does not drive as declared")
    check.set_defaults(run=_check)


def _new(args: argparse.Namespace) -> int:
    from dsac_robot.apps.robot_template import template

    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", args.name):
        raise ParameterError(f"NAME = {args.name!r} must be letters, digits, _ and -, and begin with a letter")
    out = args.out or Path(f"{args.name}.yaml")
    if out.suffix != ".yaml":
        raise ParameterError(f"--out {out} must end in .yaml, so that --robot takes it for a file")
    if out.exists():
        raise ParameterError(f"{out} exists already; give another --out, or remove it")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(template(args.name, str(out)), encoding="utf-8")
    print(f"{out}: fill it in, then: dsac-robot robot check {out}")
    return 0


def _check(args: argparse.Namespace) -> int:
    from dsac_robot.apps.figures import report, status, write_json
    from dsac_robot.core.robot import load_robot
    from sim.robot_check import compiled, try_out

    robot = load_robot(args.robot)
    model, driven = compiled(robot), try_out(robot)
    print(f"{robot.name}: valid")
    for line in (*describe(robot, model), *notes(robot), *unfilled(args.robot)):
        print(f"  {line}")
    figures = figures_of(robot, model, driven)
    for figure in figures:
        wanted = f"  ({'at least' if figure.at_least else 'at most'} {figure.target:.3g})" if figure.target else ""
        flag = "  MISSED" if figure.ok is False else ""
        print(f"  {figure.name:24} {figure.value:8.3f} {figure.unit:3}{wanted}{flag}")
    if args.png is not None:
        from dsac_robot.apps.robot_figure import draw

        print(f"  picture: {draw(robot, model, args.png)}")
    write_json(args.json, report(figures, robot=robot.name))
    return status(figures, args.strict)


def figures_of(robot: Robot, model: Compiled, driven: TryOut) -> list[Figure]:
    """What was measured of the model, against what the description says."""
    from dsac_robot.apps.figures import Figure

    declared = robot.base.track_multiplier
    off = abs(driven.track_multiplier / declared - 1.0)
    return [
        Figure("mass", model.mass_kg, "kg", reference=robot.base.mass_kg),
        Figure("speed_ratio", driven.speed_ratio, "", SPEED_RATIO),
        Figure("track_multiplier", driven.track_multiplier, "", reference=declared),
        Figure("track_multiplier_off", off, "", TRACK_OFF, at_least=False),
        Figure("side_slip", driven.side_slip_s, "s", reference=robot.actuation.side_slip_s),
        Figure("wheels_down", driven.wheels_down, "", WHEELS_DOWN),
        Figure("stop_distance", driven.stop_m, "m", driven.stop_expected_m, at_least=False),
    ]


def describe(robot: Robot, model: Compiled) -> Sequence[str]:
    """Derived values, a line each."""
    base, limits, lidar = robot.base, robot.limits, robot.lidar
    low, high = robot.footprint.min(axis=0), robot.footprint.max(axis=0)
    wheels = len(model.wheels_m)
    grip, push = base.friction * GRAVITY_MPS2, sum(model.torque_nm_max) / base.wheel_radius_m / base.mass_kg
    seen = math.degrees(lidar.angle_increment_rad * lidar.beams)
    theory = 1.0 + (base.wheelbase_m / base.track_m) ** 2
    skid = f", of Coulomb theory {theory:.2f}" if base.drive == "skid_steer" else ""
    x, _, z = model.com_m
    size = f"{high[0] - low[0]:.3f} x {high[1] - low[1]:.3f} x {base.height_m:.3f} m"
    moments = ", ".join(f"{moment:.4g}" for moment in model.inertia_kgm2)
    return (
        f"{base.drive}, {wheels} driven wheels, {size}",
        f"centre of mass {x:.3f} m forward, {z:.3f} m high; moments {moments} kg m^2",
        f"effective track {robot.effective_track_m:.3f} m; multiplier declared {base.track_multiplier:.2f}{skid}",
        f"tyres hold {grip:.1f} m/s^2, motors push {push:.1f}, limits ask {limits.accel_mps2_max:g}, "
        f"stops {limits.brake_mps2:g}",
        f"lidar: {lidar.beams} beams over {min(seen, 360.0):.0f} degrees, one every "
        f"{2000.0 * math.tan(0.5 * lidar.angle_increment_rad):.1f} mm at 1 m, {lidar.rate_hz:g} Hz; "
        f"{1000.0 * limits.speed_mps_max / lidar.rate_hz:.0f} mm between scans at full speed",
    )


def notes(robot: Robot) -> list[str]:
    """What is allowed and yet worth a second look."""
    base, limits, lidar = robot.base, robot.limits, robot.lidar
    found = []
    if limits.brake_mps2 > 0.9 * base.friction * GRAVITY_MPS2:
        found.append(
            f"NOTE limits.brake_mps2 = {limits.brake_mps2:g} is more than 0.9 of what the tyres hold "
            f"({base.friction * GRAVITY_MPS2:.1f} m/s^2): the guard would count on a stop that slides"
        )
    seen = lidar.angle_increment_rad * lidar.beams
    if seen < 2.0 * math.pi - 0.01 and limits.speed_mps_min < 0.0:
        found.append(
            f"NOTE the lidar leaves {360.0 - math.degrees(seen):.0f} degrees unseen, and limits.speed_mps_min = "
            f"{limits.speed_mps_min:g} allows reverse: the guard takes unseen space for occupied"
        )
    if lidar.in_slot and lidar.z_m < base.height_m:
        found.append(
            f"NOTE lidar.z_m = {lidar.z_m:g} is below the top of the body at {base.height_m:g}: by lidar.in_slot "
            "nothing of the robot stands in the plane of the scan"
        )
    if base.drive == "skid_steer" and robot.actuation.side_slip_s == 0.0:
        found.append(
            "NOTE actuation.side_slip_s = 0: a skid-steer base slides outwards in its turns, and the guard counts on "
            "this one not to. side_slip below is what the model does in a wide turn; tight ones reach 1.7 times that "
            "(shipped robots: 0.10 and 0.11)"
        )
    return found + guard_notes(robot)


def guard_notes(robot: Robot) -> list[str]:
    """Where the shipped guard profiles do not fit the robot, or fit themselves to it."""
    from dsac_robot.apps.barn_runs import guard_params
    from dsac_robot.core.guard_pace import fitted

    found = []
    for profile in ("static", "dynamic"):
        params = guard_params(profile)
        try:
            waits = fitted(params, robot)
        except ParameterError as error:
            found.append(f"NOTE the guard refuses this robot: {error}. Set it in a params_file (docs/safety.md)")
            continue
        for name in ("scan_timeout_s", "odom_timeout_s", "command_timeout_s"):
            if getattr(waits, name) > getattr(params, name):
                found.append(
                    f"NOTE sensors are slower than the guard waits by default: {name} is {getattr(waits, name):g} "
                    f"instead of {getattr(params, name):g}"
                )
    return list(dict.fromkeys(found))


def unfilled(robot: str) -> list[str]:
    """How many values of a robot file are still marked as nobody's."""
    left = Path(robot).read_text(encoding="utf-8").count(" [?]\n") if robot.endswith(".yaml") else 0
    return [f"NOTE {left} values are still marked [?]: of a made-up robot, not of yours"] if left else []
