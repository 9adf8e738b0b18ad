"""``dsac-robot demo``: the whole stack on real ROS 2, one process a node: drives, faults, a bag and a report."""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from dsac_robot.apps.report_notes import END, RUN, Expect, Note
from dsac_robot.apps.up_cmd import add_robot_arguments, node_specs
from dsac_robot.apps.up_processes import NodeSpec, ProcessError, Processes
from dsac_robot.core.robot import load_robot

if TYPE_CHECKING:
    from dsac_robot.apps.demo_stage import Stage
    from dsac_robot.core.robot import Robot

BAD_INPUT = 2
NOT_SHOWN = 1
GAP_SLACK_M = 0.15  # the way until the guard sees the obstacle
OPERATOR_MPS = 1.2
DRIVE_S_MAX = 40.0  # of simulated time, for one drive
DOMAINS = 101  # ids 1 to 101 use ports below Linux's ephemeral range
WORLDS = ("clutter:13", "clutter:9", "clutter:31")


@dataclass(frozen=True)
class Act:
    """One act: a world, what is done there, and what the recording must show."""

    title: str
    world: str
    expect: Expect
    play: Callable[[Stage], None]


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command ``demo``."""
    parser = subparsers.add_parser(
        "demo",
        description="The simulated robot under real ROS 2, one process a node: three drives through clutter, then the "
        "policy is killed, an obstacle put in the way, the lidar corrupted. Status 1 if an act does not show what it "
        "must.",
    )
    add_robot_arguments(parser)
    parser.add_argument("--out", type=Path, default=Path("out/demo"), metavar="DIR", help="default: out/demo")
    parser.add_argument("--quick", action="store_true", help="one drive and the killed policy only")
    parser.add_argument(
        "--worlds", nargs="+", default=WORLDS, metavar="W", help="empty or clutter:SEED; faults are shown in the last"
    )
    parser.add_argument("--image", type=Path, metavar="FILE.png", help="also write the overview picture there")
    parser.set_defaults(run=_run)


def acts(worlds: Sequence[str], quick: bool, monitored: bool) -> list[Act]:
    """The acts in order: a drive in each world, the faults in the last."""
    drives = [Act(f"Drive {i}: {world}", world, Expect.GOAL, drive) for i, world in enumerate(worlds, 1)]
    killed = Act("The policy process is killed", worlds[-1], Expect.REST, kill_policy)
    if quick:
        return [drives[0], killed]
    obstacle = Act("An obstacle appears, the operator insists", worlds[-1], Expect.GUARD, put_obstacle)
    lidar = Act("The lidar is corrupted", worlds[-1], Expect.MONITOR, corrupt_lidar)
    return [*drives, killed, obstacle, *([lidar] if monitored else [])]


# The acts. Each begins at the start of its world, the guard still latched.


def drive(stage: Stage) -> None:
    """From start to goal."""
    stage.go()
    arrived = stage.until(lambda: stage.touched or stage.to_goal_m < 0.5, "the goal", DRIVE_S_MAX, progress(stage))
    if arrived and not stage.touched:
        stage.until(lambda: stage.speed_mps < 0.02, "at rest", 3.0)
    stage.wait(0.3)


def kill_policy(stage: Stage) -> None:
    """SIGKILL to the policy in mid-drive; started anew once the robot is at rest."""
    up_to_speed(stage, 1.2, 3.0)
    stage.event("policy process killed (SIGKILL)")
    stage.processes.kill("policy")
    stage.until(lambda: stage.speed_mps < 0.02, "at rest", 5.0, progress(stage))
    stage.wait(1.0)


def put_obstacle(stage: Stage) -> None:
    """A wall of cylinders just where the guard can still stop, while an operator holds the stick straight on.

    The operator, for the policy would see the wall at its next tick and leave the guard nothing to do.
    """
    stage.held_mps = OPERATOR_MPS
    up_to_speed(stage, 0.95 * OPERATOR_MPS, 0.5)
    gap_m = stage.stop_distance_m + GAP_SLACK_M
    stage.event(f"obstacle put {gap_m:.2f} m ahead")
    stage.place_ahead(gap_m, (-0.28, 0.0, 0.28))
    stage.until(lambda: stage.touched or stage.speed_mps < 0.02, "at rest", 5.0, progress(stage))
    stage.wait(1.0)
    stage.held_mps = None


def corrupt_lidar(stage: Stage) -> None:
    """Half a metre of noise on every beam."""
    up_to_speed(stage, 1.2, 2.0)
    stage.event("lidar corrupted: 0.5 m of noise on every beam")
    stage.set_parameters(lidar_fault="noise")
    stage.wait(4.0)
    stage.set_parameters(lidar_fault="none")


def up_to_speed(stage: Stage, speed_mps: float, after_m: float) -> None:
    """Drive until that fast after so much of the way, at the latest when two thirds are done."""
    stage.go()
    whole_m = stage.to_goal_m

    def ready() -> bool:
        done_m = whole_m - stage.to_goal_m
        return (done_m >= after_m and stage.speed_mps >= speed_mps) or done_m > 0.67 * whole_m

    stage.until(ready, "up to speed", DRIVE_S_MAX, progress(stage))


def progress(stage: Stage) -> Callable[[], None]:
    """A line that shows the drive, where there is a terminal."""

    def tell() -> None:
        if sys.stdout.isatty() and stage.safety is not None:
            decision = stage.safety.decision
            line = f"      {stage.to_goal_m:5.1f} m to go  {stage.speed_mps:4.1f} m/s  {decision.level.name} "
            print(f"\r{line}{decision.reason.name}".ljust(78), end="", flush=True)

    return tell


# The command.


def _run(args: argparse.Namespace) -> int:
    out: Path = args.out
    out.mkdir(parents=True, exist_ok=True)
    # Before rclpy is loaded: a domain of our own, on this machine only.
    os.environ["ROS_DOMAIN_ID"] = str(random.SystemRandom().randint(1, DOMAINS))
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    os.environ.setdefault("ROS_LOG_DIR", str(Path(tempfile.gettempdir()) / "dsac_robot_logs"))
    name = f"bag_{datetime.now():%Y-%m-%d_%H-%M-%S}"
    try:
        played = acts(args.worlds, args.quick, not args.no_monitor)
        _play(played, _specs(args, out, name), load_robot(args.robot), out / f"logs_{name[4:]}")
    except ImportError as error:
        print(f"dsac-robot: {error}: install dsac_robot[ros,sim,deploy,data,report]", file=sys.stderr)
        return BAD_INPUT
    except ProcessError as error:
        print(f"dsac-robot: {error}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("\nended before the last act", file=sys.stderr)
        return NOT_SHOWN
    return _judge(out / name, out, len(played), args.image)


def _specs(args: argparse.Namespace, out: Path, bag: str) -> list[NodeSpec]:
    """One spec a node; the recorder writes the bag ``bag`` and takes the simulator's topics and our notes too."""
    specs = node_specs(args, "static", True, args.worlds[0], out.resolve())
    extra = {"bag": bag, "extra_topics": "sim/truth sim/obstacles sim/walls sim/movers notes"}
    return [
        NodeSpec(spec.name, spec.files, {**spec.parameters, **extra}) if spec.name == "recorder" else spec
        for spec in specs
    ]


def _play(played: list[Act], specs: list[NodeSpec], robot: Robot, logs: Path) -> None:
    """Start the processes and play the acts."""
    import rclpy

    from dsac_robot.apps.demo_stage import Stage, StageError
    from dsac_robot.nodes.run import StopSignals, init

    by_name = {spec.name: spec for spec in specs}
    with StopSignals() as signals, Processes(logs=logs) as processes:
        init(["dsac-robot"])
        print(f"starting {len(specs)} processes: {', '.join(by_name)} (logs in {logs})", flush=True)
        for spec in specs:
            processes.start(spec)
        stage = Stage(processes, robot, lambda: signals.received is None)
        try:
            stage.wait_for_all("ood_monitor" in by_name)
            for number, act in enumerate(played, 1):
                print(f"[{number}/{len(played)}] {act.title} …", flush=True)
                stage.begin(act.world)
                stage.note(Note(stage.now_ns, RUN, act.title, act.expect))
                act.play(stage)
                stage.note(Note(stage.now_ns, END, act.title))
                if sys.stdout.isatty():
                    print("\r".ljust(80) + "\r", end="")
                print(f"      {said(stage)}", flush=True)
                if act.play is kill_policy and number < len(played):
                    print("      the policy is started anew, once ROS 2 has missed the old one", flush=True)
                    stage.until(stage.policy_is_gone, "the killed policy's publisher to disappear")
                    processes.start(by_name["policy"])
        except StageError as error:
            raise ProcessError(f"{error}; the logs are in {logs}") from error
        finally:
            stage.close()
            rclpy.try_shutdown()


def said(stage: Stage) -> str:
    """Where an act ended."""
    if stage.safety is None:
        return ""
    decision = stage.safety.decision
    return (
        f"{stage.to_goal_m:.1f} m from the goal at {stage.speed_mps:.1f} m/s; {decision.level.name} "
        f"{decision.reason.name}"
    )


def _judge(bag: Path, out: Path, expected: int, image: Path | None) -> int:
    """Make the report, and judge each act by the recording alone."""
    from dsac_robot.apps.report_cmd import make_report
    from dsac_robot.apps.report_figures import write_overview

    recording, verdicts = make_report(bag, out)
    if image is not None:
        write_overview(recording, image)
    for run, verdict in zip(recording.runs, verdicts, strict=True):
        print(f"{'shown ' if verdict.ok else 'NOT SHOWN'}  {run.title}: {verdict.text}")
    if len(recording.runs) < expected:
        print(f"NOT SHOWN  the recording has {len(recording.runs)} of {expected} acts")
    print(f"bag     {bag}\nreport  {out / 'report.html'}")
    return 0 if len(recording.runs) == expected and all(verdict.ok for verdict in verdicts) else NOT_SHOWN
