"""``dsac-robot up``: the robot's nodes from the parameter files of config/, in one process or in one each."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from dsac_robot.apps.up_processes import START_ORDER, NodeSpec, ProcessError, Processes
from dsac_robot.core.files import share_path

BAD_INPUT = 2
FAILED = 1
POLL_S = 0.2


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command ``up``."""
    parser = subparsers.add_parser(
        "up",
        description="Bring up guard, monitor and policy, with --record the recorder, with --sim a simulated robot. "
        "Ctrl-C stops the robot and ends all.",
    )
    add_robot_arguments(parser)
    parser.add_argument("--sim", action="store_true", help="add the simulated robot; all others take its time")
    parser.add_argument(
        "--world",
        default="clutter:0",
        help="with --sim: empty, barn:FOLDER:N, or KIND:SEED[:DIFFICULTY] with KIND clutter, corridors, offices, "
        "pedestrians, mix or track (default: clutter:0)",
    )
    parser.add_argument(
        "--firmware",
        choices=("qemu",),
        help="with --sim: the base's firmware, as an ARM program under QEMU, drives the simulated motors",
    )
    parser.add_argument("--namespace", default="", metavar="NS", help="namespace of all nodes and topics")
    parser.add_argument(
        "--guard-profile", choices=("static", "dynamic"), default="dynamic", help="obstacles stand still, or move"
    )
    parser.add_argument("--record", type=Path, metavar="DIR", help="record a bag in a new folder below DIR")
    parser.add_argument("--processes", action="store_true", help="one process a node")
    parser.set_defaults(run=_run)


def add_robot_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that ``up`` and ``demo`` share."""
    parser.add_argument("--robot", default="jackal", help="robot of config/robots, or a .yaml file (default: jackal)")
    parser.add_argument(
        "--bundle",
        default="navigate_jackal",
        metavar="DIR",
        help="bundle of config/bundles, or a directory (default: navigate_jackal)",
    )
    parser.add_argument("--allow-unsigned", action="store_true", help="use a bundle without a trusted signature")
    parser.add_argument(
        "--no-monitor", action="store_true", help="without the OOD monitor, for a bundle that has none: less safe"
    )


def node_specs(
    args: argparse.Namespace, guard_profile: str, sim: bool, world: str, record: Path | None, base: bool = False
) -> list[NodeSpec]:
    """The nodes to start, in this order, each with its parameter files and the command line's wishes.

    Raises FileNotFoundError naming a parameter file, robot or bundle that is not there.
    """
    from dsac_robot.core.robot import load_robot

    load_robot(args.robot)
    bundle = args.bundle
    if not Path(bundle).is_dir():
        share_path("config", "bundles", bundle)
    clock = {"use_sim_time": True} if sim else {}
    robot = {**clock, "robot": args.robot}
    learned = {**robot, "bundle": bundle, "allow_unsigned": args.allow_unsigned}
    guard = {**robot, "require_verdict": False} if args.no_monitor else robot
    folder = share_path("config")
    specs = [
        NodeSpec("safety_guard", [folder / f"safety_guard_{guard_profile}.yaml"], guard),
        NodeSpec("policy", [folder / "policy.yaml"], learned),
    ]
    if not args.no_monitor:
        specs.append(NodeSpec("ood_monitor", [folder / "ood_monitor.yaml"], learned))
    if sim:
        specs.append(NodeSpec("sim_bridge", (), {"robot": args.robot, "world": world}))
    if record is not None:
        wishes = {**clock, "out": str(record), "bundle": bundle}
        specs.append(NodeSpec("recorder", [folder / "recorder.yaml"], wishes))
    if base:
        specs.append(NodeSpec("base", [folder / "base.yaml"], robot))
    return sorted(specs, key=lambda spec: START_ORDER.index(spec.name))


def _run(args: argparse.Namespace) -> int:
    if args.firmware is not None and not args.sim:
        print("dsac-robot: --firmware needs --sim, which simulates the motors it drives", file=sys.stderr)
        return BAD_INPUT
    specs = node_specs(args, args.guard_profile, args.sim, args.world, args.record, args.firmware is not None)
    if args.no_monitor:
        print("dsac-robot: WITHOUT the OOD monitor: nothing judges the policy's commands", file=sys.stderr)
    try:
        if args.firmware is not None:
            return _with_firmware(args, specs)
        return _in_processes(args, specs) if args.processes else _composed(args, specs)
    except ImportError as error:
        print(f"dsac-robot: {error}: install dsac_robot[ros] (with --sim also [sim]) or source ROS 2", file=sys.stderr)
        return BAD_INPUT


def _composed(args: argparse.Namespace, specs: list[NodeSpec]) -> int:
    """All nodes in this process, until Ctrl-C."""
    import rclpy

    from dsac_robot.nodes.compose import BringUpError, compose
    from dsac_robot.nodes.run import StopSignals, init

    with StopSignals() as signals:
        init(["dsac-robot"])
        try:
            files = [file for spec in specs for file in spec.files]
            wishes = {spec.name: spec.parameters for spec in specs}
            composition = compose([node_class(spec.name) for spec in specs], files, args.namespace, parameters=wishes)
            try:
                composition.bring_up(lambda: signals.received is None)
                if signals.received is None:
                    print(_said(args, specs), flush=True)
                composition.spin(lambda: signals.received is None)
            except BringUpError as error:
                print(f"dsac-robot: {error}", file=sys.stderr)
                return BAD_INPUT
            finally:
                composition.close()
        finally:
            rclpy.try_shutdown()
    return 0


def _with_firmware(args: argparse.Namespace, specs: list[NodeSpec]) -> int:
    """The firmware under QEMU, and one process a node."""
    from dsac_robot.apps.firmware_qemu import FirmwareError, FirmwareInQemu, firmware_image
    from dsac_robot.core.robot import load_robot

    try:
        with FirmwareInQemu(firmware_image(load_robot(args.robot).name)) as firmware:
            ports = {"base": {"port": firmware.link_url}, "sim_bridge": {"firmware_plant": firmware.plant_address}}
            wired = [replace(s, parameters={**s.parameters, **ports.get(s.name, {})}) for s in specs]
            return _in_processes(args, wired)
    except FirmwareError as error:
        print(f"dsac-robot: {error}", file=sys.stderr)
        return BAD_INPUT


def _in_processes(args: argparse.Namespace, specs: list[NodeSpec]) -> int:
    """One process a node, until Ctrl-C or until one of them ends."""
    from dsac_robot.nodes.run import StopSignals

    with StopSignals() as signals, Processes(args.namespace) as processes:
        for spec in specs:
            processes.start(spec)
        print(_said(args, specs), flush=True)
        while signals.received is None:
            time.sleep(POLL_S)
            try:
                processes.check()
            except ProcessError as error:
                print(f"dsac-robot: {error}", file=sys.stderr)
                return BAD_INPUT if error.status == BAD_INPUT else FAILED
    return 0


def node_class(name: str) -> Any:
    """The node class of a name."""
    from dsac_robot.nodes.base import BaseNode
    from dsac_robot.nodes.ood_monitor import MonitorNode
    from dsac_robot.nodes.policy import PolicyNode
    from dsac_robot.nodes.recorder import Recorder
    from dsac_robot.nodes.safety_guard import GuardNode

    if name == "sim_bridge":
        from sim.ros_bridge import SimBridge

        return SimBridge
    classes = {"safety_guard": GuardNode, "policy": PolicyNode, "ood_monitor": MonitorNode, "recorder": Recorder}
    return {**classes, "base": BaseNode}[name]


def _said(args: argparse.Namespace, specs: list[NodeSpec]) -> str:
    names = ", ".join(spec.name for spec in specs)
    place = f" in /{args.namespace.strip('/')}" if args.namespace.strip("/") else ""
    return f"up{place}: {names} (guard profile {args.guard_profile}). Ctrl-C ends."
