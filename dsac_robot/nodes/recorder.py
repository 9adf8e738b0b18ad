"""Records every topic of the table, as serialized messages, into a rosbag2 bag that a crash hardly hurts.

Beside the topics of the table: /tf and /tf_static where tf2_msgs is installed, /parameter_events, the nodes' lifecycle
transitions, and topics named by ``extra_topics``. The bundle's digest and the parameters of all nodes of the namespace
go to MCAP metadata records and, as messages, to ``recorder/context``. Stops and resets are in ``safety/state``.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from lifecycle_msgs.msg import TransitionEvent
from rcl_interfaces.msg import ParameterEvent
from rcl_interfaces.srv import GetParameters, ListParameters
from rclpy.duration import Duration
from rclpy.parameter import parameter_value_to_python
from rclpy.qos import QoSProfile

from dsac_robot.core.files import share_path
from dsac_robot.core.params import ParameterError, param
from dsac_robot.data.mcap_writer import INFINITE, BagTopic, BagWriteError, BagWriter, OfferedQos
from dsac_robot.data.msgdefs import UnknownTypeError, header_stamp_ns
from dsac_robot.nodes.lifecycle import StackNode, value_pairs
from dsac_robot.nodes.run import spin
from dsac_robot.nodes.topics import (
    CMD_VEL,
    EVENTS,
    LATCHED,
    TOPICS,
    Quality,
    Topic,
    cmd_vel_topic,
)

FLUSH_PERIOD_S = 0.2  # at most 0.5 s may be lost
LOOK_PERIOD_S = 1.0  # for new nodes and new extra topics
CLOCK_STEP_NS = 1_000_000_000  # ROS time that goes back by more begins a new bag
DEPTH_MIN = 100  # messages that may wait for the recorder
EARLY_MAX = 10_000  # messages that may wait for the first /clock
STATIC_TF_MESSAGES = 100  # one per broadcaster
TF_STATIC_QUALITY = Quality("reliable, transient local, depth 100", True, True, STATIC_TF_MESSAGES)
CONTEXT = Topic("recorder/context", DiagnosticArray, LATCHED, "recorder", "bundle digest and parameters of all nodes")
MANAGED = ("policy", "ood_monitor", "safety_guard", "base")


@dataclass(frozen=True)
class RecorderParams:
    """Where and what to record."""

    out: str = param("bags", unit="", help="folder in which a folder for each bag is made")
    bag: str = param("", unit="", help="name of the bag; empty: date and time")
    split_mb: float = param(512.0, unit="MB", low=0.0, high=1e6, help="a new file after so much; 0: never")
    split_s: float = param(0.0, unit="s", low=0.0, high=1e6, help="a new file after so long; 0: never")
    extra_topics: str = param("", unit="", help="more topics, separated by spaces; types are looked up in the graph")
    cmd_vel_type: str = param(
        "TwistStamped", unit="", choices=("TwistStamped", "Twist"), help="the guard's parameter of the same name"
    )
    bundle: str = param("", unit="", help="folder or name of the bundle in use: its digest goes into the bag")


class Recorder(StackNode):
    """The recorder as a managed node. It records while active; each activation makes a new bag."""

    def __init__(self, arguments: list[str] | None = None, context: Any = None) -> None:
        self._writer: BagWriter | None = None
        self._waiting: dict[str, deque[bytes]] = {}  # newest latched messages by topic, for the next bag
        self._known: dict[str, BagTopic] = {}
        self._last_ns = 0
        self._early: list[tuple[str, bytes]] = []  # what came before the first /clock
        self._bags = 0
        self._states: dict[str, DiagnosticStatus] = {}
        self._asked: set[str] = set()
        super().__init__("recorder", RecorderParams, arguments=arguments, context=context)

    @property
    def bag(self) -> Path | None:
        """The folder of the bag that is being written."""
        return self._writer.path if self._writer is not None else None

    def configure(self) -> None:
        """Subscribe to everything. Raises ParameterError for a bundle or an extra topic's name that cannot be."""
        self._params = self.values(RecorderParams)
        self._states, self._asked, self._known, self._waiting = {}, set(), {}, {}
        if self._params.bundle:
            self._states["bundle"] = _bundle_status(self._params.bundle)
        self._context_publisher = self.publisher(CONTEXT)
        for topic in (*_table(self._params.cmd_vel_type), *_tf_topics()):
            self._record_topic(topic)
        self._missing = [self.resolve_topic_name(name) for name in self._params.extra_topics.split()]
        self.steady_timer(FLUSH_PERIOD_S, self._flush)
        self.steady_timer(LOOK_PERIOD_S, self._look_around)
        self.diagnose(1.0, self._status)

    def activate(self) -> None:
        """Open a bag. Raises OSError naming the folder where it cannot be made."""
        self._open()
        self._publish_context()

    def deactivate(self) -> None:
        """Close the bag: index and metadata.yaml are written."""
        self._write_early(None)
        if self._writer is not None:
            self._writer.close()
            self.get_logger().info(f"closed {self._writer.path} with {self._writer.message_count} messages")
            self._writer = None

    # -- the bag -----------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        name = self._params.bag or datetime.now().strftime("rosbag2_%Y_%m_%d-%H_%M_%S")
        if self._bags:
            name = f"{name}_part{self._bags}"
        self._bags += 1
        context = {f"recorder/{key}": _as_text(status) for key, status in self._states.items()}
        custom = {"bundle_digest": context.get("recorder/bundle", {}).get("digest", "")}
        try:
            self._writer = BagWriter(
                Path(self._params.out).expanduser() / name,
                split_bytes=int(self._params.split_mb * 1e6),
                split_s=self._params.split_s,
                context=context,
                custom=custom,
            )
        except BagWriteError as error:
            raise OSError(str(error)) from error
        self.get_logger().info(f"recording into {self._writer.path}")
        self._last_ns = 0
        for topic, kept in self._waiting.items():
            for data in kept:
                self._write(topic, data)

    def _write(self, name: str, data: bytes) -> None:
        """Store a message of a known topic, received now in ROS time.

        What comes before the first /clock waits for it: some of it (parameter events) is stamped by the wall clock.
        """
        if self._writer is None:
            return
        now_ns = self.now_ns()
        if now_ns == 0:
            self._early.append((name, data))
            if len(self._early) >= EARLY_MAX:
                self._write_early(None)
            return
        if self._early:
            self._write_early(now_ns)
        if now_ns < self._last_ns - CLOCK_STEP_NS:
            self.get_logger().warning("ROS time went back: a new bag begins")
            self.deactivate()
            self._open()
            self._last_ns = now_ns
        self._last_ns = max(self._last_ns, now_ns)
        self._store(name, data, now_ns)

    def _write_early(self, now_ns: int | None) -> None:
        """Store what came before the first /clock: as received now or, where no /clock came, at its own stamp."""
        early, self._early = self._early, []
        for name, data in early:
            stamp_ns = header_stamp_ns(self._known[name].type, data) or 0
            self._store(name, data, max(stamp_ns, 0) if now_ns is None else now_ns)

    def _store(self, name: str, data: bytes, log_ns: int) -> None:
        if self._writer is not None:
            self._writer.add_topic(self._known[name])
            self._writer.write(name, data, log_ns)

    def _flush(self) -> None:
        if self._writer is not None:
            self._writer.flush()

    # -- topics ------------------------------------------------------------------------------------------------------

    def _record_topic(self, topic: Topic) -> None:
        """Subscribe without decoding. The name is remembered absolute, as it stands in the bag."""
        name = self.resolve_topic_name(topic.name)
        quality = topic.quality
        latched = STATIC_TF_MESSAGES if name == "/tf_static" else int(quality.transient_local)
        known = False

        def on_message(data: bytes) -> None:
            nonlocal known
            if not known:
                offered = self._offered(name) or (_offered(quality.profile()),)
                self._known[name] = BagTopic(name, topic.type_name, offered, latched)
                known = True
            self._write(name, data)
            if latched:
                self._waiting.setdefault(name, deque(maxlen=latched)).append(data)

        profile = quality.profile()
        profile.depth = max(profile.depth, DEPTH_MIN)
        made = self.create_subscription(topic.type, name, on_message, profile, raw=True)
        self._undo.append(lambda: self.destroy_subscription(made))

    def _offered(self, name: str) -> tuple[OfferedQos, ...]:
        infos = self.get_publishers_info_by_topic(name)
        return tuple(dict.fromkeys(_offered(info.qos_profile) for info in infos))

    def _look_around(self) -> None:
        """Find the types of extra topics, the transitions and the parameters of nodes that have appeared."""
        types = dict(self.get_topic_names_and_types())
        for name in [name for name in self._missing if name in types]:
            self._missing.remove(name)
            self._record_extra(name, types[name][0])
        own = self.get_namespace()
        for node, space in self.get_node_names_and_namespaces():
            full = f"{space.rstrip('/')}/{node}"
            if space == own and full not in self._asked:
                self._asked.add(full)
                self._ask_parameters(full)

    def _record_extra(self, name: str, type_name: str) -> None:
        latched = any(q.durability == "transient_local" for q in self._offered(name))
        quality = LATCHED if latched else Quality("best effort", False, False, DEPTH_MIN)
        try:
            self._record_topic(Topic(name, _message_class(type_name), quality, "", ""))
        except (ImportError, AttributeError, UnknownTypeError) as error:
            self.get_logger().error(f"{name} is not recorded: {type_name} cannot be imported ({error})")

    # -- context -----------------------------------------------------------------------------------------------------

    def _ask_parameters(self, node: str) -> None:
        lister = self.create_client(ListParameters, f"{node}/list_parameters")
        getter = self.create_client(GetParameters, f"{node}/get_parameters")
        names: Sequence[str] = ()

        def on_list(future: Any) -> None:
            nonlocal names
            names = list(future.result().result.names)
            getter.call_async(GetParameters.Request(names=names)).add_done_callback(on_values)

        def on_values(future: Any) -> None:
            found = [parameter_value_to_python(value) for value in future.result().values]
            status = DiagnosticStatus(name=node, message="parameters")
            status.values = [KeyValue(key=k, value=repr(v)) for k, v in zip(names, found, strict=False)]
            self._add_context(f"parameters:{node}", status)

        self._undo.append(lambda: self.destroy_client(lister))
        self._undo.append(lambda: self.destroy_client(getter))
        if not lister.wait_for_service(timeout_sec=0.0):  # not there yet, or a node without parameters
            self._asked.discard(node)
            self._undo.pop()()
            self._undo.pop()()
            return
        lister.call_async(ListParameters.Request()).add_done_callback(on_list)

    def _add_context(self, key: str, status: DiagnosticStatus) -> None:
        self._states[key] = status
        if self._writer is not None:
            self._writer.add_metadata(f"recorder/{key}", _as_text(status))
        if self.active:
            self._publish_context()

    def _publish_context(self) -> None:
        message = DiagnosticArray(status=list(self._states.values()))
        message.header.stamp = self.get_clock().now().to_msg()
        self._context_publisher.publish(message)

    def _status(self) -> DiagnosticStatus:
        writer = self._writer
        status = DiagnosticStatus(name="bag", level=DiagnosticStatus.OK, message="recording" if writer else "idle")
        if writer is not None:
            status.values = value_pairs(bag=writer.path, messages=writer.message_count, files=len(writer.files))
        return status


def _table(cmd_vel_type: str) -> list[Topic]:
    own = [cmd_vel_topic(cmd_vel_type) if topic is CMD_VEL else topic for topic in TOPICS]
    transitions = [
        Topic(f"{node}/transition_event", TransitionEvent, EVENTS, node, "lifecycle transitions") for node in MANAGED
    ]
    events = Topic("/parameter_events", ParameterEvent, EVENTS, "all nodes", "changes of parameters")
    return [*own, *transitions, events, CONTEXT]


def _tf_topics() -> list[Topic]:
    try:
        message = _message_class("tf2_msgs/msg/TFMessage")
    except ImportError:
        return []
    return [
        Topic("/tf", message, Quality("best effort", False, False, DEPTH_MIN), "", ""),
        Topic("/tf_static", message, TF_STATIC_QUALITY, "", ""),
    ]


def _message_class(type_name: str) -> Any:
    package, kind, name = type_name.split("/")
    return getattr(importlib.import_module(f"{package}.{kind}"), name)


def _offered(profile: QoSProfile) -> OfferedQos:
    def duration(value: Duration) -> tuple[int, int]:
        return divmod(value.nanoseconds, 10**9) if value.nanoseconds < 2**63 - 1 else INFINITE

    return OfferedQos(
        history=profile.history.name.lower(),
        depth=profile.depth,
        reliability=profile.reliability.name.lower(),
        durability=profile.durability.name.lower(),
        liveliness=profile.liveliness.name.lower(),
        deadline=duration(profile.deadline),
        lifespan=duration(profile.lifespan),
        liveliness_lease=duration(profile.liveliness_lease_duration),
    )


def _bundle_status(bundle: str) -> DiagnosticStatus:
    """Digest and MANIFEST of a bundle. The policy node verifies it; here it is only named."""
    folder = Path(bundle).expanduser()
    if not folder.is_dir():
        try:
            folder = share_path("config", "bundles", bundle)
        except FileNotFoundError as error:
            raise ParameterError(f"recorder: bundle = {bundle!r} is no folder and no bundle that ships") from error
    manifest = (folder / "MANIFEST").read_bytes()
    status = DiagnosticStatus(name="bundle", message=folder.name)
    digest = hashlib.sha256(manifest).hexdigest()
    status.values = value_pairs(digest=digest, manifest=manifest.decode(errors="replace"))
    return status


def _as_text(status: DiagnosticStatus) -> dict[str, str]:
    return {pair.key: pair.value for pair in status.values}


def main(args: Sequence[str] | None = None) -> int:
    """The executable: ``ros2 run dsac_robot recorder``."""
    return spin(Recorder, args)


if __name__ == "__main__":
    sys.exit(main())
