"""``dsac-robot identify``: parameters of the robot file from a recorded drive, with intervals."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsac_robot.core.files import share_path
from dsac_robot.core.params import ParameterError

if TYPE_CHECKING:
    from dsac_robot.data.identify import Finding, Identification
    from dsac_robot.data.identify_motion import LagFit

BAD_INPUT = 2
REACTION = "reaction_s (of the guard)"
ABOUT = """\
Fits delay, motor lag, wheel radius, effective track and brake to a bag of cmd_vel, odom, imu and scan, each with a 95 %
interval (block bootstrap). What the bag does not excite is refused, with what to drive instead:
  delay, lag    cmd_vel against odometry's speed: a drive with steps of the speed command, 16 s at least. The delay is
                all from the stamp of cmd_vel on (transport, link) but the servo and the jitter that the file states
  wheel radius  lidar scans of straight stretches, or --distance: commands and odometry share one assumed radius, and
                cannot tell. It is the radius that rolls under load
  brake         odometry's way of stops that the guard made (~/stop, or teleop let go of): five or more
  track         commanded yaw rate against the gyro's (imu; without it odometry's heading, put right by the scans)
A parameter whose value in the file lies in its interval is kept as it is. --out writes the robot file with the others
changed, each with "[identified from BAG, interval]"; all other lines stay. A bundle drives only the geometry that it
was trained for: after a change of wheel radius or track, set the same numbers in the base's controller and train again.
"""


def register(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "identify",
        description=ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bag", type=Path, metavar="BAG", help="bag folder, or one .mcap file")
    parser.add_argument(
        "--robot", required=True, metavar="FILE", help="robot file that the drive was made with, or name"
    )
    parser.add_argument("--namespace", help="the robot's namespace in the bag (default: the bag's only one)")
    parser.add_argument("--distance", type=float, metavar="M", help="the drive was one straight line of so many metres")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the robot file with what was identified")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write figures and intervals")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="draw measurements, model and residuals")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Read, fit, say, write."""
    from dsac_robot.core.robot import load_robot
    from dsac_robot.data.bag_reader import BagError
    from dsac_robot.data.identify import identify, read_recording
    from dsac_robot.data.identify_motion import NotExcitedError

    if args.distance is not None and not 1.0 <= args.distance <= 1000.0:
        raise ParameterError(f"--distance {args.distance} m is outside [1, 1000]")
    robot = load_robot(args.robot)
    try:
        found = identify(read_recording(args.bag, args.namespace), robot, args.distance)
    except (BagError, NotExcitedError) as error:
        print(f"dsac-robot: {error}", file=sys.stderr)
        return BAD_INPUT
    for finding in found.findings:
        print(_line(finding))
    if found.reaction_s is not None:
        print(f"{REACTION:32} at least {found.reaction_s:.3g} s: p99 of the time between commands, and all delay")
    if args.json:
        _write_json(args.json, args.bag, found)
    if args.plot:
        from dsac_robot.apps.identify_plot import draw

        draw(found, args.plot)
    if all(finding.found is None for finding in found.findings):
        print(f"dsac-robot: {args.bag} identifies nothing: see above what to drive", file=sys.stderr)
        return BAD_INPUT
    if args.out:
        changed = write_robot(_robot_path(args.robot), args.out, args.bag.name, found)
        print(f"{args.out}: changed {', '.join(changed) if changed else 'nothing'}")
    return 0


def agrees(finding: Finding) -> bool:
    """Whether the file's value lies in the interval."""
    return finding.found is not None and finding.found.low <= finding.stated <= finding.found.high


def write_robot(source: Path, out: Path, bag: str, found: Identification) -> list[str]:
    """Write ``source`` to ``out`` with what was found to differ; returns those keys.

    Raises ParameterError where the result is no valid robot file (nothing is left behind then).
    """
    from dsac_robot.apps.robot_text import Change, change_values
    from dsac_robot.core.robot import load_robot

    changes = {
        f.key: Change(f.found.value, f"identified from {bag}, 95 % in {f.found.low:.4g} to {f.found.high:.4g}")
        for f in found.findings
        if f.found is not None and not agrees(f)
    }
    try:
        text = change_values(source.read_text(encoding="utf-8"), changes)
    except ValueError as error:
        raise ParameterError(f"{source}: {error}") from error
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = out.with_name(f"{out.stem}.draft.yaml")
    draft.write_text(text, encoding="utf-8")
    try:
        load_robot(draft)
        draft.replace(out)
    finally:
        draft.unlink(missing_ok=True)
    return list(changes)


def _robot_path(name_or_path: str) -> Path:
    return (
        Path(name_or_path) if name_or_path.endswith(".yaml") else share_path("config", "robots", f"{name_or_path}.yaml")
    )


def _line(finding: Finding) -> str:
    note = f" ({finding.note})" if finding.note else ""
    if finding.found is None:
        return f"{finding.key:32} not identified: {finding.note}"
    value, unit = finding.found, f" {finding.unit}" if finding.unit else ""
    verdict = "the file's value holds" if agrees(finding) else f"the file says {finding.stated:.4g}{unit}"
    return f"{finding.key:32} {value.value:.4g}{unit} [{value.low:.4g}, {value.high:.4g}]: {verdict}{note}"


def _write_json(path: Path, bag: Path, found: Identification) -> None:
    from dsac_robot.apps.figures import Figure, report, write_json

    known = [(f.key, f.unit, f.found) for f in found.findings if f.found is not None]
    figures = [
        Figure(f"{key}{end}", value, unit)
        for key, unit, est in known
        for end, value in (("", est.value), ("_low", est.low), ("_high", est.high))
    ]
    if found.reaction_s is not None:
        figures.append(Figure("reaction_s", found.reaction_s, "s"))
    findings = [
        {
            "key": f.key,
            "unit": f.unit,
            "stated": f.stated,
            "value": f.found.value if f.found else None,
            "interval": [f.found.low, f.found.high] if f.found else None,
            "agrees": agrees(f) if f.found else None,
            "note": f.note,
        }
        for f in found.findings
    ]
    fits = {fit.channel.name: _fit(fit) for fit in (found.speed, found.yaw) if fit}
    slip = found.scans.slip_s.value if found.scans else None
    write_json(path, report(figures, bag=bag.name, findings=findings, fits=fits, wheel_slip_s=slip))


def _fit(fit: LagFit) -> dict[str, Any]:
    parts = {"delay_s": fit.delay_s, "lag_s": fit.lag_s, "gain": fit.gain}
    return {name: [e.value, e.low, e.high] for name, e in parts.items()} | {"explained": fit.explained}
