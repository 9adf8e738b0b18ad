"""``dsac-robot bench faults``: what breaks x speed, on real rclpy with the simulated robot: how it stops, and why."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsac_robot.apps.docs_table import begin_of, write_table
from dsac_robot.apps.faults_cases import INPUTS, PROCESSES, Case
from dsac_robot.apps.figures import Figure, report, status, write_json
from dsac_robot.core.params import ParameterError
from dsac_robot.core.reasons import Reason

if TYPE_CHECKING:
    from dsac_robot.apps.faults_stage import FaultStage, Stop

TIME_S_MAX, DISTANCE_M_MAX = 1.0, 1.2  # from 2 m/s
LEARNED_MPS_MAX = 1.8  # about as fast as the shipped policy goes
COMMAND = "dsac-robot bench faults"
DOMAIN_FIRST, DOMAINS = 40, 60  # up to 101 all work on any system
_GRAPHS = itertools.count()  # each graph has a namespace of its own
TRIES = 2  # of a drive that did not get under way; what was measured is never measured again


@dataclass(frozen=True)
class Row:
    """One measured stop."""

    fault: str
    asked_mps: float
    speed_mps: float
    time_s: float
    distance_m: float
    reason: str
    expected: tuple[str, ...]
    touched: bool
    recovered: bool | None  # None: a killed process does not come back by itself

    @property
    def ok(self) -> bool:
        """At rest in time, for the right reason, with nothing touched, and under way again the documented way."""
        named = self.reason in self.expected or not self.expected
        in_time = self.time_s <= TIME_S_MAX and self.distance_m <= DISTANCE_M_MAX
        return named and in_time and not self.touched and self.recovered is not False


def register(subparsers: Any) -> None:
    """Add the benchmark."""
    parser = subparsers.add_parser(
        "faults", help="each fault, injected at speed: stop time, distance, reason, recovery"
    )
    parser.add_argument("--speeds", default="0.5,1,2", help="m/s at which it strikes (default: 0.5,1,2)")
    parser.add_argument("--only", metavar="TEXT", help="only faults whose name contains this; none: no runs")
    parser.add_argument("--bundle", default="navigate_jackal", help="bundle that drives in the faults of processes")
    parser.add_argument("--allow-unsigned", action="store_true", help="take a bundle without a trusted signature")
    parser.add_argument("--real-time-factor", type=float, default=1.0, help="of the simulated robot (default: 1)")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write figures and rows; with --only, into those there"
    )
    parser.add_argument(
        "--docs", type=Path, metavar="FILE", help=f"page whose table, after {begin_of(COMMAND)!r}, is written anew"
    )
    parser.add_argument("--strict", action="store_true", help="exit status 1 if a target is missed")
    parser.set_defaults(run=run_faults)


def speeds_of(text: str) -> list[float]:
    """The speeds of ``--speeds``. Raises ParameterError."""
    try:
        speeds = [float(part) for part in text.split(",")]
    except ValueError:
        raise ParameterError(f"--speeds {text!r} must be numbers with commas between, such as 0.5,1,2") from None
    if not all(0.1 <= speed <= 2.0 for speed in speeds):
        raise ParameterError(f"--speeds {text!r}: each must be in [0.1, 2]")
    return speeds


def run_faults(args: argparse.Namespace) -> int:
    """Run ``bench faults``."""
    speeds = speeds_of(args.speeds)
    if not 0.05 <= args.real_time_factor <= 1.0:
        raise ParameterError(f"--real-time-factor {args.real_time_factor} is outside [0.05, 1]")
    cases = [case for case in (*INPUTS, *PROCESSES) if not args.only or args.only in case.name]
    if not cases and args.only != "none":
        known = ", ".join(case.name for case in (*INPUTS, *PROCESSES))
        raise ParameterError(f"--only {args.only!r} is in no fault's name; known: {known}")
    before = read_rows(args.json) if args.only and args.json is not None and args.json.is_file() else []
    rows = measured(cases, speeds, args) if cases else []
    missing = len(cases) * len(speeds) - len(rows)
    rows = merged(before, rows)
    if not rows:
        print("dsac-robot: no fault could be measured; see above", file=sys.stderr)
        return 2
    figures = [*figures_of(rows), Figure("not_measured", float(missing), "", 0.0, at_least=False)]
    print(markdown(rows))
    for figure in figures:
        target = f"  target {figure.target:g}" if figure.target is not None else ""
        print(f"{figure.name:>26} {figure.value:g} {figure.unit}{target}")
    if cases:
        saved = [asdict(row) | {"ok": row.ok} for row in rows]
        write_json(args.json, report(figures, real_time_factor=args.real_time_factor, faults=saved))
    if args.docs is not None:
        write_table(args.docs, COMMAND, markdown(rows))
    return status(figures, args.strict)


def read_rows(path: Path) -> list[Row]:
    """The rows of an earlier ``--json FILE``. Raises ParameterError where it is none."""
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))["faults"]
        rows = [{key: value for key, value in row.items() if key != "ok"} for row in saved]
        return [Row(**{**row, "expected": tuple(row["expected"])}) for row in rows]
    except (ValueError, KeyError, TypeError) as error:
        raise ParameterError(f"{path} was not written by {COMMAND}: {error}") from None


def merged(before: Sequence[Row], new: Sequence[Row]) -> list[Row]:
    """The rows of both, new ones in place of old, in the order of the cases; faults that are known no more left out."""
    rows = {(row.fault, row.asked_mps): row for row in (*before, *new)}
    order = [case.name for case in (*INPUTS, *PROCESSES)]
    known = [key for key in rows if key[0] in order]
    return [rows[key] for key in sorted(known, key=lambda key: (order.index(key[0]), key[1]))]


def measured(cases: Sequence[Case], speeds: Sequence[float], args: argparse.Namespace) -> list[Row]:
    """All cases at all speeds: what kills a process on a graph of its own, for DDS misses it for a while."""
    from dsac_robot.nodes.run import init

    # /clock is one for all namespaces: in a domain of its own no other simulation, and no robot, is disturbed.
    os.environ.setdefault("ROS_DOMAIN_ID", str(DOMAIN_FIRST + os.getpid() % DOMAINS))
    init([])
    rows: list[Row] = []
    for learned in (False, True):
        mine = [(case, speed) for case in cases for speed in speeds if case.learned == learned]
        shared = [(case, speed) for case, speed in mine if not case.kills]
        for group in (shared, *([drive] for drive in mine if drive[0].kills)):
            rows += _on_one_graph(group, learned, args) if group else []
    return rows


def _on_one_graph(drives: Sequence[tuple[Case, float]], learned: bool, args: argparse.Namespace) -> list[Row]:
    """The cases one after the other, at their speeds. Where a process died that should not have, again on a new one."""
    from dsac_robot.apps.up_processes import ProcessError

    rows: list[Row] = []
    left, tries = list(drives), 0
    while left and tries < TRIES:
        tries += 1
        try:
            for row in _rows(left, learned, args):
                rows.append(row)
                left = [(case, speed) for case, speed in left if (case.name, speed) != (row.fault, row.asked_mps)]
            return rows
        except ProcessError as error:
            print(f"{error}; again on a new graph", flush=True)
    return rows


def _rows(drives: Sequence[tuple[Case, float]], learned: bool, args: argparse.Namespace) -> Iterator[Row]:
    from dsac_robot.apps.faults_stage import FaultStage
    from dsac_robot.apps.up_processes import Processes

    namespace = f"faults_{os.getpid()}_{next(_GRAPHS)}"
    with Processes(namespace) as processes:
        for spec in _specs(args, learned):
            processes.start(spec)
        stage = FaultStage(processes, namespace, plays_policy=not learned)
        try:
            for case, speed in drives:
                row = _tried(stage, case, speed, min(speed, LEARNED_MPS_MAX) if learned else speed)
                if row is not None:
                    print(text_of(row), flush=True)
                    yield row
        finally:
            stage.close()


def _specs(args: argparse.Namespace, learned: bool) -> list[Any]:
    from dsac_robot.apps.up_processes import NodeSpec
    from dsac_robot.core.files import share_path

    clock = {"use_sim_time": True}
    guard = {**clock, "blank_is_fault": True, "require_verdict": learned, "blackbox_dir": "", "fallback_after_s": 0.0}
    guard["min_dwell_s"] = 1.0  # a fault that is over at once is a stop that can be measured
    bundle = {**clock, "bundle": str(args.bundle), "allow_unsigned": args.allow_unsigned}
    made = [
        NodeSpec("sim_bridge", (), {"world": "empty", "real_time_factor": args.real_time_factor}),
        NodeSpec("safety_guard", (share_path("config", "safety_guard_static.yaml"),), guard),
    ]
    return [*made, NodeSpec("ood_monitor", (), bundle), NodeSpec("policy", (), bundle)] if learned else made


def _tried(stage: FaultStage, case: Case, asked_mps: float, speed_mps: float) -> Row | None:
    """One drive and one fault. None where the robot did not get under way, or did not come to rest."""
    from dsac_robot.apps.faults_stage import FaultsError

    for _ in range(1 if case.kills else TRIES):
        try:
            stage.restart(speed_mps)
            return _row(case, asked_mps, _struck(stage, case, speed_mps))
        except FaultsError as error:
            print(f"{case.name} at {asked_mps:g} m/s: not measured: {error}", flush=True)
            stage.mend(case.process or None, case.parameters)
    return None


def _struck(stage: FaultStage, case: Case, speed_mps: float) -> Stop:
    """Break, measure, mend, and see whether the robot drives again."""
    from dsac_robot.apps.faults_stage import Stop

    struck, (time_s, distance_m) = stage.measure(lambda: _strike(stage, case))
    if case.how == "stop" and not case.learned:  # a guard that wakes up says why it stops
        stage.hold(case.process, False)
        stage.until(lambda: stage.reason() != Reason.NONE, "a reason", 2.0)
    reason, recovered = stage.reason(), False
    if not case.kills:
        stage.mend(case.process or None, case.parameters)
        stage.asked, stage.age_s = (speed_mps, 0.0), 0.0
        recovered = stage.drives_again(case.reset)
    return Stop(struck.speed_mps, time_s, distance_m, reason, stage.touched, recovered)


def _strike(stage: FaultStage, case: Case) -> None:
    from std_srvs.srv import Trigger

    if case.asked != (0.0, 0.0):
        stage.asked, stage.age_s = case.asked, case.age_s
    if case.parameters:
        stage.faults(**case.parameters)
    if case.second:
        stage.second_publisher(case.second)
    if case.service:
        stage.call(Trigger, case.service)
    if case.how in ("stop", "pause"):
        stage.hold(case.process, True)
    if case.how == "pause":
        stage.until(lambda: False, "time", 0.4)
        stage.hold(case.process, False)
    if case.how == "slow":
        stage.slow(case.process, case.stopped_s, case.running_s)
    if case.kills:
        stage.processes.kill(case.process)


def _row(case: Case, asked_mps: float, stop: Stop) -> Row:
    recovered = None if case.kills else stop.recovered
    expected = tuple(reason.name for reason in case.reasons)
    return Row(
        *(case.name, asked_mps, stop.speed_mps, stop.time_s, stop.distance_m),
        *(stop.reason.name, expected, stop.touched, recovered),
    )


def text_of(row: Row) -> str:
    """One line on a stop."""
    again = {None: "", True: ", drives again", False: ", does NOT drive again"}[row.recovered]
    judged = "" if row.ok else f"   MISSED (expected {' or '.join(row.expected) or 'no reason'})"
    stop = f"{row.time_s:.2f} s, {row.distance_m:.2f} m, {row.reason}"
    return f"{row.fault} at {row.speed_mps:.2f} m/s: {stop}{again}{judged}"


def figures_of(rows: list[Row]) -> list[Figure]:
    """Stop times and distances against the promise, reasons, contacts, recoveries."""
    named = [row.reason in row.expected for row in rows if row.expected]
    recovered = [row.recovered for row in rows if row.recovered is not None]
    return [
        Figure("stop_time_max", max(r.time_s for r in rows), "s", TIME_S_MAX, at_least=False),
        Figure("stop_distance_max", max(r.distance_m for r in rows), "m", DISTANCE_M_MAX, at_least=False),
        Figure("right_reason_rate", sum(named) / max(1, len(named)), "", 1.0),
        Figure("recovered_rate", sum(recovered) / max(1, len(recovered)), "", 1.0),
        Figure("contacts", float(sum(r.touched for r in rows)), "", 0.0, at_least=False),
        Figure("faults", float(len(rows))),
    ]


def markdown(rows: Sequence[Row]) -> str:
    """The table of docs/safety.md: a row a fault; time and distance at each speed."""
    speeds = sorted({row.asked_mps for row in rows})
    head = ["fault", "reason", *(f"from {speed:g} m/s" for speed in speeds)]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for fault in dict.fromkeys(row.fault for row in rows):
        mine = {row.asked_mps: row for row in rows if row.fault == fault}
        reasons = dict.fromkeys(row.reason for row in mine.values())
        named = " ".join("the base's own timeout" if name == "NONE" else f"`{name}`" for name in reasons)
        cells = [fault, named, *(_cell(mine.get(speed)) for speed in speeds)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(row: Row | None) -> str:
    if row is None:
        return "not measured"
    stop = f"{row.time_s:.2f} s, {row.distance_m:.2f} m"
    stop += "" if abs(row.speed_mps - row.asked_mps) <= 0.1 * row.asked_mps else f" (from {row.speed_mps:.2f})"
    return stop if row.ok else f"**{stop}**"
