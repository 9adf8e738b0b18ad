"""``dsac-robot bag info | recover | replay``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dsac_robot.data.replay import RawMessage

Run = Callable[[argparse.Namespace], int]
BAD_INPUT = 2
DEPTH = 100  # messages that may wait for a reader


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command ``bag``; each action sets ``run``, which returns the exit status."""
    bag = subparsers.add_parser("bag")
    actions = bag.add_subparsers(dest="action", required=True, metavar="ACTION")
    info = actions.add_parser("info", help="print topics, times and what can be learned from")
    recover = actions.add_parser("recover", help="give a bag that was never closed its index and metadata back")
    replay = actions.add_parser("replay", help="feed a bag's sensors to the running nodes, with /clock, without a base")
    for parser, run in ((info, _info), (recover, _recover), (replay, _replay)):
        parser.add_argument("bag", type=Path, metavar="BAG", help="bag folder, or one .mcap file")
        parser.set_defaults(run=_guarded(run))
    recover.add_argument("--out", type=Path, metavar="DIR", help="the new bag (default: BAG_recovered)")
    replay.add_argument("--rate", type=float, default=1.0, help="speed, above 0 and at most 1 (default: 1.0)")
    replay.add_argument("--topics", default="", metavar="NAMES", help="more topics to replay, separated by commas")
    replay.add_argument("--namespace", help="the robot's namespace in the bag (default: the bag's only one)")
    replay.add_argument("--to-namespace", metavar="NS", help="publish under this one instead")
    replay.add_argument("--wait", type=float, default=2.0, metavar="S", help="for subscribers, at most (default: 2)")


def _guarded(run: Run) -> Run:
    """``run`` with bad input answered on stderr and by exit status 2."""

    def guarded(args: argparse.Namespace) -> int:
        from dsac_robot.data.bag_reader import BagError
        from dsac_robot.data.mcap_writer import BagWriteError

        try:
            return run(args)
        except (BagError, BagWriteError, OSError) as error:
            print(f"dsac-robot: {error}", file=sys.stderr)
        except ImportError as error:
            print(f"dsac-robot: {error}: install or source ROS 2 and the bag's message packages", file=sys.stderr)
        return BAD_INPUT

    return guarded


def _info(args: argparse.Namespace) -> int:
    from dsac_robot.data.bag_reader import BagReader, SeveralRobotsError

    try:
        with BagReader(args.bag) as reader:
            info = reader.info
    except SeveralRobotsError as error:
        print(f"note: {error}", file=sys.stderr)
        with BagReader(args.bag, namespace="") as reader:
            info = reader.info
    print(f"{info.path}: {info.messages} messages, {info.duration_s:.1f} s, namespace /{info.namespace}")
    width = max((len(topic.name) for topic in info.topics), default=0)
    for topic in info.topics:
        note = "" if topic.readable else "  (not learned from)"
        print(f"  {topic.name:{width}}  {topic.messages:7d}  {topic.type}{note}")
    return 0


def _recover(args: argparse.Namespace) -> int:
    from dsac_robot.data.recover import recover

    bag: Path = args.bag
    out = args.out or bag.with_name(f"{bag.stem if bag.is_file() else bag.name}_recovered")
    print(recover(bag, out, progress=lambda line: print(f"reading {line}", file=sys.stderr)))
    return 0


def _replay(args: argparse.Namespace) -> int:
    from dsac_robot.data.bag_reader import BagReader
    from dsac_robot.data.replay import SENSOR_TOPICS, RawMessage, raw_messages, schedule

    if not 0.0 < args.rate <= 1.0:
        print(f"dsac-robot: --rate {args.rate} is outside (0, 1]: the graph runs in real time at most", file=sys.stderr)
        return BAD_INPUT
    with BagReader(args.bag, namespace=args.namespace) as reader:
        namespace, info = reader.namespace, reader.info
    topics = [*SENSOR_TOPICS, *(name for name in args.topics.split(",") if name)]
    prefix = f"/{namespace}/" if namespace else "/"
    names = {name if name.startswith("/") else f"{prefix}{name}": name for name in topics}
    types = {names[topic.name]: topic.type for topic in info.topics if topic.name in names}
    target = namespace if args.to_namespace is None else args.to_namespace.strip("/")
    print(f"replaying {', '.join(types)} under /{target}, {info.duration_s:.1f} s at rate {args.rate}", file=sys.stderr)
    with _Player(types, target) as player:
        player.wait_for_subscribers(args.wait)
        begun_s, first_ns, sent, told_s = time.monotonic(), None, 0, 0.0
        for item in schedule(raw_messages(args.bag, topics, namespace)):
            first_ns = item.log_time_ns if first_ns is None else first_ns
            at_s = (item.log_time_ns - first_ns) / 1e9
            if not player.sleep_until(begun_s + at_s / args.rate):
                print(f"stopped after {at_s:.1f} s of the bag", file=sys.stderr)
                break
            if isinstance(item, RawMessage):
                player.publish(item)
                sent += 1
            else:
                player.clock(item.log_time_ns)
            if at_s >= told_s + 5.0:
                told_s = at_s
                print(f"{at_s:.0f} of {info.duration_s:.0f} s", file=sys.stderr)
    print(f"{sent} messages replayed")
    return 0


class _Player:
    """Publishers of the replayed topics in a node of their own: reliable, transient local where the table says so."""

    def __init__(self, types: dict[str, str], namespace: str) -> None:
        self._types, self._namespace = types, namespace

    def __enter__(self) -> _Player:
        import rclpy

        from dsac_robot.nodes.run import StopSignals, init
        from dsac_robot.nodes.topics import CLOCK, EVENTS, LATCHED, TOPICS

        self._signals = StopSignals()
        self._signals.__enter__()
        init(["dsac-robot"])
        self._node = rclpy.create_node("replay", namespace=self._namespace or None)
        latched = {topic.name for topic in TOPICS if topic.quality.transient_local}
        self._publishers: dict[str, Any] = {}
        for name, type_name in self._types.items():
            # Reliable writers serve best-effort readers too, and a slow reader loses nothing.
            profile = replace(LATCHED if name in latched else EVENTS, depth=DEPTH).profile()
            self._publishers[name] = self._node.create_publisher(_message_class(type_name), name, profile)
        self._clock = self._node.create_publisher(CLOCK.type, CLOCK.name, CLOCK.qos)
        return self

    def __exit__(self, *_: object) -> None:
        import rclpy

        # Reliable messages still on their way arrive before the writers are gone.
        for publisher in self._publishers.values():
            publisher.wait_for_all_acked(rclpy.duration.Duration(seconds=1.0))
        self._node.destroy_node()
        rclpy.try_shutdown()
        self._signals.__exit__(None, None, None)

    def wait_for_subscribers(self, wait_s: float) -> None:
        """Until each topic has a subscriber, at most ``wait_s``; says which has none."""
        end_s = time.monotonic() + wait_s
        while self._lonely() and time.monotonic() < end_s and self._signals.received is None:
            time.sleep(0.05)
        if self._lonely():
            print(f"nobody listens to {', '.join(self._lonely())}", file=sys.stderr)

    def sleep_until(self, time_s: float) -> bool:
        """Sleep until the steady clock says ``time_s``; False when asked to stop."""
        while (left_s := time_s - time.monotonic()) > 0.0 and self._signals.received is None:
            time.sleep(min(left_s, 0.1))
        return self._signals.received is None

    def clock(self, time_ns: int) -> None:
        """Publish /clock."""
        from dsac_robot.nodes.topics import CLOCK

        message = CLOCK.type()
        message.clock.sec, message.clock.nanosec = divmod(time_ns, 10**9)
        self._clock.publish(message)

    def publish(self, message: RawMessage) -> None:
        """Publish recorded bytes as they are."""
        self._publishers[message.topic].publish(message.data)

    def _lonely(self) -> Sequence[str]:
        return [name for name, publisher in self._publishers.items() if publisher.get_subscription_count() == 0]


def _message_class(type_name: str) -> Any:
    import importlib

    package, kind, name = type_name.split("/")
    return getattr(importlib.import_module(f"{package}.{kind}"), name)
