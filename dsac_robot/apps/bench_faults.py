"""``dsac-robot bench faults``: what breaks x speed, on real rclpy with the simulated robot: how it stops, and why."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsac_robot.apps.figures import Figure, report, status, write_json
from dsac_robot.core.params import ParameterError
from dsac_robot.core.reasons import Reason

if TYPE_CHECKING:
    from dsac_robot.apps.faults_stage import FaultStage, Stop

TIME_S_MAX, DISTANCE_M_MAX = 1.0, 1.2  # from 2 m/s
R = Reason


@dataclass(frozen=True)
class Case:
    """One thing that breaks, and what the guard must call it."""

    name: str
    reasons: tuple[Reason, ...]  # any of them; none: the guard is what is broken
    asked: tuple[float, float] | None = (0.0, 0.0)  # what a broken policy asks instead; (0, 0): it is not broken
    age_s: float = 0.0  # of the stamps of its commands
    parameters: Mapping[str, str] = field(default_factory=dict)  # faults of the simulated robot
    second: str = ""  # policy | guard: a second publisher on its topic
    process: str = ""  # which one is killed, stopped or slowed
    how: str = ""  # kill | stop | slow | pause
    reset: bool = False  # recovery needs ~/reset
    service: str = ""  # called as the fault


def _lidar(fault: str, *reasons: Reason) -> Case:
    return Case(f"lidar {fault.replace('_', ' ')}", reasons, parameters={"lidar_fault": fault})


def _odom(fault: str, *reasons: Reason) -> Case:
    return Case(f"odometry {fault.replace('_', ' ')}", reasons, parameters={"odom_fault": fault})


def _clock(fault: str, *reasons: Reason) -> Case:
    return Case(f"clock {fault}", reasons, parameters={"clock_fault": fault})


INPUTS = (
    Case("command NaN", (R.COMMAND_NOT_FINITE,), asked=(math.nan, 0.0)),
    Case("command Inf", (R.COMMAND_NOT_FINITE,), asked=(0.5, math.inf)),
    Case("command out of range", (R.COMMAND_OUT_OF_RANGE,), asked=(3.0, 0.0)),
    Case("command old stamp", (R.COMMAND_STALE,), asked=(0.5, 0.0), age_s=1.0),
    Case("command future stamp", (R.COMMAND_FROM_FUTURE,), asked=(0.5, 0.0), age_s=-1.0),
    Case("commands end", (R.COMMAND_STALE,), asked=None),
    Case("second publisher of policy/cmd_vel", (R.COMMAND_SECOND_PUBLISHER,), second="policy"),
    Case("second publisher of cmd_vel", (R.COMMAND_SECOND_PUBLISHER,), second="guard"),
    _lidar("nan", R.SCAN_ALL_INVALID),
    _lidar("blank", R.SCAN_BLANK),
    _lidar("frozen", R.SCAN_FROZEN),
    _lidar("half_invalid", R.SCAN_HALF_BLIND),
    _lidar("wrong_count", R.SCAN_WRONG_COUNT),
    _lidar("wrong_frame", R.SCAN_WRONG_FRAME),
    _lidar("future_stamp", R.SCAN_FROM_FUTURE),
    _lidar("old_stamp", R.SCAN_STALE),
    _lidar("repeated_stamp", R.SCAN_OUT_OF_ORDER),
    _lidar("silent", R.SCAN_STALE),
    _odom("nan", R.ODOM_NOT_FINITE),
    _odom("jump", R.ODOM_JUMP),
    _odom("frozen", R.ODOM_FROZEN),
    _odom("future_stamp", R.ODOM_FROM_FUTURE),
    _odom("silent", R.ODOM_STALE),
    # Sensors go on without the clock: their stamps are ahead of it before its silence is long enough.
    _clock("stop", R.CLOCK_LOST, R.SCAN_FROM_FUTURE, R.ODOM_FROM_FUTURE, R.COMMAND_FROM_FUTURE),
    _clock("forward", R.CLOCK_JUMP),
    _clock("back", R.CLOCK_JUMP),
    Case("guard paused for 0.4 s", (R.LOOP_OVERRUN,), process="safety_guard", how="pause"),
    Case("~/stop", (R.OPERATOR_STOP,), service="safety_guard/stop", reset=True),
)
PROCESSES = (
    *(Case(f"policy {how}", (R.COMMAND_STALE,), process="policy", how=how) for how in ("kill", "stop", "slow")),
    *(Case(f"monitor {how}", (R.VERDICT_MISSING,), process="ood_monitor", how=how) for how in ("kill", "stop", "slow")),
    Case("guard kill", (), process="safety_guard", how="kill"),
    Case("guard stop", (R.LOOP_OVERRUN, R.CLOCK_JUMP), process="safety_guard", how="stop"),
    Case("guard slow", (R.LOOP_OVERRUN,), process="safety_guard", how="slow"),
)


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
    parser.add_argument("--speeds", default="0.5,1,2", help="m/s, for the faults of inputs (default: 0.5,1,2)")
    parser.add_argument("--only", metavar="TEXT", help="only faults whose name contains this")
    parser.add_argument("--bundle", default="navigate_jackal", help="bundle that drives in the faults of processes")
    parser.add_argument("--allow-unsigned", action="store_true", help="take a bundle without a trusted signature")
    parser.add_argument("--real-time-factor", type=float, default=0.5, help="of the simulated robot (default: 0.5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write figures and the table")
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
    inputs = [case for case in INPUTS if not args.only or args.only in case.name]
    processes = [case for case in PROCESSES if not args.only or args.only in case.name]
    if not inputs and not processes:
        known = ", ".join(case.name for case in (*INPUTS, *PROCESSES))
        raise ParameterError(f"--only {args.only!r} is in no fault's name; known: {known}")

    from dsac_robot.nodes.run import init

    init([])
    rows: list[Row] = []
    if inputs:
        rows += run_inputs(inputs, speeds, args)
    for number, case in enumerate(processes):
        rows += run_process(case, number, args)
    if not rows:
        print("dsac-robot: no fault could be measured; see above", file=sys.stderr)
        return 2
    wanted = len(inputs) * len(speeds) + len(processes)
    figures = [*figures_of(rows), Figure("not_measured", float(wanted - len(rows)), "", 0.0, at_least=False)]
    print(markdown(rows))
    for figure in figures:
        print(
            f"{figure.name:>26} {figure.value:g} {figure.unit}"
            + (f"  target {figure.target:g}" if figure.target is not None else "")
        )
    write_json(args.json, report(figures, faults=[asdict(row) | {"ok": row.ok} for row in rows]))
    return status(figures, args.strict)


def _namespace(name: str) -> str:
    return f"faults_{os.getpid()}_{name}"


def _specs(args: argparse.Namespace, policy: bool) -> list[Any]:
    from dsac_robot.apps.up_processes import NodeSpec
    from dsac_robot.core.files import share_path

    clock = {"use_sim_time": True}
    guard = {**clock, "blank_is_fault": True, "require_verdict": policy, "blackbox_dir": "", "fallback_after_s": 0.0}
    guard["min_dwell_s"] = 1.0  # a fault that is over at once is a stop that can be measured
    learned = {**clock, "bundle": str(args.bundle), "allow_unsigned": args.allow_unsigned}
    made = [
        NodeSpec("sim_bridge", (), {"world": "empty", "real_time_factor": args.real_time_factor}),
        NodeSpec("safety_guard", (share_path("config", "safety_guard_static.yaml"),), guard),
    ]
    return [*made, NodeSpec("ood_monitor", (), learned), NodeSpec("policy", (), learned)] if policy else made


def run_inputs(cases: list[Case], speeds: list[float], args: argparse.Namespace) -> list[Row]:
    """The faults of inputs, one after the other on one graph; the benchmark plays the policy."""
    from dsac_robot.apps.faults_stage import FaultStage
    from dsac_robot.apps.up_processes import Processes

    rows = []
    with Processes(_namespace("inputs")) as processes:
        for spec in _specs(args, policy=False):
            processes.start(spec)
        stage = FaultStage(processes, _namespace("inputs"), plays_policy=True)
        for case in cases:
            for speed in speeds:
                rows += _tried(stage, case, speed)
        stage.close()
    return rows


def _struck(stage: FaultStage, case: Case, speed_mps: float) -> Stop:
    """Break, measure, mend, and see whether the robot drives again."""
    from std_srvs.srv import Trigger

    from dsac_robot.apps.faults_stage import Stop

    def strike() -> None:
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
            stage.slow(case.process, 0.35, 0.05)
        if case.how == "kill":
            stage.processes.kill(case.process)

    struck, (time_s, distance_m) = stage.measure(strike)
    if case.how == "stop":  # a guard that wakes up says why it stops
        stage.hold(case.process, False)
        stage.until(lambda: stage.reason() != Reason.NONE, "a reason", 2.0)
    reason, recovered = stage.reason(), False
    if case.how != "kill":
        stage.mend(case.process or None, case.parameters)
        stage.asked, stage.age_s = (speed_mps, 0.0), 0.0
        recovered = stage.drives_again(case.reset)
    return Stop(struck.speed_mps, time_s, distance_m, reason, stage.touched, recovered)


def run_process(case: Case, number: int, args: argparse.Namespace) -> list[Row]:
    """One fault of a process on a graph of its own, for what was killed is missed by DDS for a while."""
    from dsac_robot.apps.faults_stage import FaultStage
    from dsac_robot.apps.up_processes import Processes

    namespace = _namespace(f"process{number}")
    with Processes(namespace) as processes:
        for spec in _specs(args, policy=True):
            processes.start(spec)
        stage = FaultStage(processes, namespace, plays_policy=False)
        rows = _tried(stage, case, 1.8)  # about as fast as the policy goes
        stage.close()
    return rows


def _tried(stage: FaultStage, case: Case, speed_mps: float) -> list[Row]:
    """One drive and one fault. No row where the robot did not get under way, or did not come to rest."""
    from dsac_robot.apps.faults_stage import FaultsError
    from dsac_robot.apps.up_processes import ProcessError

    try:
        stage.restart(speed_mps)
        row = _row(case, speed_mps, _struck(stage, case, speed_mps))
    except (FaultsError, ProcessError) as error:
        print(f"{case.name} at {speed_mps:g} m/s: not measured: {error}", flush=True)
        return []
    print(text_of(row), flush=True)
    return [row]


def _row(case: Case, asked_mps: float, stop: Stop) -> Row:
    recovered = None if case.how == "kill" else stop.recovered
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


def markdown(rows: list[Row]) -> str:
    """The table of docs/safety.md: a row a fault, time and distance at each speed."""
    text = "| fault | reason | speed (m/s): stop time (s), distance (m) |\n|---|---|---|\n"
    for fault in dict.fromkeys(row.fault for row in rows):
        mine = [row for row in rows if row.fault == fault]
        reasons = " ".join(f"`{reason}`" for reason in dict.fromkeys(r.reason for r in mine)).replace(
            "`NONE`", "the base's own timeout"
        )
        cells = "; ".join(f"{r.speed_mps:.1f}: {r.time_s:.2f}, {r.distance_m:.2f}" for r in mine)
        text += f"| {fault} | {reasons} | {cells} |\n"
    return text
