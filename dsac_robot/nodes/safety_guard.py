"""The node ``safety_guard``: the only publisher of ``cmd_vel``, at a fixed rate of the steady clock, never silent.

All decisions are in core/guard.py. From configure to cleanup it publishes; while inactive what it publishes is a stop.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Thread
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import TwistStamped
from nav_msgs.msg import Odometry
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import LaserScan
from std_srvs.srv import SetBool, Trigger

from dsac_robot.core.blackbox import BlackBox, write
from dsac_robot.core.guard import GuardModel, initial_state, step
from dsac_robot.core.guard_docking import Docking
from dsac_robot.core.guard_types import Decision, GuardInput, GuardParams
from dsac_robot.core.params import param
from dsac_robot.core.reasons import Level, Reason
from dsac_robot.core.values import NS, Command, Contact, Odom, ns
from dsac_robot.nodes.clock_watch import ClockWatch, sent_stamp_ns
from dsac_robot.nodes.converters import (
    ConversionError,
    command_to_message,
    contact_from_message,
    same_frame,
    scan_from_message,
    twist_to_message,
)
from dsac_robot.nodes.inputs import RobotMessages, RobotParams, robot_of
from dsac_robot.nodes.lifecycle import StackNode, percentile, value_pairs
from dsac_robot.nodes.run import spin
from dsac_robot.nodes.states import SafetyState, base_from_message, decision_to_message, verdict_from_message
from dsac_robot.nodes.topics import (
    BASE_STATE,
    CLOCK,
    CONTACT,
    ODOM,
    OOD_STATE,
    POLICY_CMD_VEL,
    SAFETY_STATE,
    SCAN,
    TELEOP_CMD_VEL,
    cmd_vel_topic,
)

GRAPH_PERIOD_S = 0.2  # how often the publishers of commands are counted
FIGURES_KEPT = 1000
SEVERITY = {
    Level.DRIVE: DiagnosticStatus.OK,
    Level.LIMITED: DiagnosticStatus.OK,
    Level.FALLBACK: DiagnosticStatus.WARN,
    Level.STOP: DiagnosticStatus.WARN,
    Level.EMERGENCY: DiagnosticStatus.ERROR,
}


@dataclass(frozen=True)
class GuardNodeParams:
    """Parameters of the guard's node alone."""

    clock_timeout_s: float = param(
        0.5, unit="s", low=0.1, high=5.0, help="use_sim_time: no /clock for so long of steady time is a stop"
    )
    enabled: bool = param(True, unit="", help="commands pass as soon as the node is active; false: only after ~/enable")
    base_timeout_s: float = param(
        0.5, unit="s", low=0.2, high=5.0, help="a base that told its state and does not for so long is a stop"
    )
    blackbox_s: float = param(
        30.0, unit="s", low=0.1, high=600.0, help="so much of the past is written when a stop latches"
    )
    blackbox_dir: str = param(
        "~/.ros/dsac_robot", unit="", help="where; dsac-robot replay FILE runs the guard on it again. Empty: nowhere"
    )


@dataclass(frozen=True)
class Chore:
    """What is done every so many periods, after the command has left."""

    every: int
    do: Callable[[], None]


class GuardNode(StackNode):
    """The node ``safety_guard``."""

    def __init__(self, arguments: list[str] | None = None, context: Any = None) -> None:
        super().__init__(
            "safety_guard", RobotParams, GuardParams, GuardNodeParams, arguments=arguments, context=context
        )

    def configure(self) -> None:
        self._robot_params, self._params = self.values(RobotParams), self.values(GuardParams)
        own, robot = self.values(GuardNodeParams), robot_of(self._robot_params)
        self._model = GuardModel.of(self._params, robot)
        self._messages = RobotMessages(self._robot_params, robot)
        self._state, self._input = initial_state(), GuardInput(now_ns=0)
        self._enabled = own.enabled
        self._touched = False
        self._odom_wrong = self._second = self._base = Reason.NONE
        self._base_due_ns: int | None = None  # when base/state must come again, by the steady clock
        self._base_timeout_ns = ns(own.base_timeout_s)
        self._watch = ClockWatch(own.clock_timeout_s, self._params.future_tolerance_s, self.steady_ns())
        self._decision = Decision(0.0, 0.0, Level.STOP, Reason.NOT_ENABLED)
        self._sent_ns = -1
        self._steps_s: deque[float] = deque(maxlen=FIGURES_KEPT)
        self._periods_s: deque[float] = deque(maxlen=FIGURES_KEPT)
        self._stepped_ns = self.steady_ns()
        self._box = BlackBox(round(own.blackbox_s / self._params.period_s))
        self._box_dir = own.blackbox_dir
        self._dump = Thread()
        topic = cmd_vel_topic(self._robot_params.cmd_vel_type)
        self._cmd_vel, self._safety = self.publisher(topic), self.publisher(SAFETY_STATE)
        self._subscribe_all()
        self.service(Trigger, "~/stop", self._on_stop)
        self.service(Trigger, "~/reset", self._on_reset)
        self.service(SetBool, "~/enable", self._on_enable)
        self.service(SetBool, "~/dock", self._on_dock)
        chores = ((GRAPH_PERIOD_S, self._count_publishers), (1.0, self.diagnoser(self._status)))
        self._chores = tuple(Chore(max(1, round(s / self._params.period_s)), do) for s, do in chores)
        self._ticks = 0
        self.steady_timer(self._params.period_s, self._tick)

    @property
    def decision(self) -> Decision:
        """What was decided last."""
        return self._decision

    def cleanup(self) -> None:
        if self._dump.is_alive():
            self._dump.join()
        if self.context.ok():  # not after a shutdown from outside: the base's own timeout stops it then
            zero = replace(self._decision, speed_mps=0.0, yaw_rate_radps=0.0)
            self._publish(zero, max(self.now_ns(), self._sent_ns + 1))

    def _subscribe_all(self) -> None:
        self.subscribe(SCAN, self._on_scan)
        self.subscribe(ODOM, self._on_odom)
        self.subscribe(CONTACT, self._on_contact)
        self.subscribe(BASE_STATE, self._on_base)
        self.subscribe(POLICY_CMD_VEL, lambda message: self._take(command=self._messages.command(message)))
        self.subscribe(
            TELEOP_CMD_VEL, lambda message: self._take(teleop=self._messages.command(message), teleop_heard=True)
        )
        self.subscribe(OOD_STATE, lambda message: self._take(verdict=verdict_from_message(message)))
        if self.get_clock().ros_time_is_active:
            self.subscribe(CLOCK, self._on_clock)

    # Inputs: the newest of each.

    def _take(self, **newest: Any) -> None:
        self._input = replace(self._input, **newest)

    def _on_clock(self, message: Clock) -> None:
        self._watch.heard_ns = self.steady_ns()

    def _on_scan(self, message: LaserScan) -> None:
        """Any scan: one in a wrong frame is the guard's to see."""
        scan, frame = scan_from_message(message), self._model.robot.lidar.frame_id
        self._take(scan=replace(scan, frame_id=frame) if same_frame(scan.frame_id, frame) else scan)

    def _on_odom(self, message: Odometry) -> None:
        try:
            odom: Odom = self._messages.odom(message)
        except ConversionError:
            self._odom_wrong = Reason.ODOM_WRONG_FRAME
            raise
        self._odom_wrong = Reason.NONE
        self._take(odom=odom)

    def _on_contact(self, message: Any) -> None:
        contact: Contact = contact_from_message(message)
        self._touched |= contact.touching  # a touch between two steps counts
        self._take(contact=contact.touching)

    def _on_base(self, message: DiagnosticArray) -> None:
        self._base = base_from_message(message).reason
        self._base_due_ns = self.steady_ns() + self._base_timeout_ns

    def _node_fault(self, steady_ns: int) -> Reason:
        """What only the node can see: frames, publishers, the base."""
        silent = self._base_due_ns is not None and steady_ns > self._base_due_ns
        faults = (self._odom_wrong, self._second, Reason.BASE_SILENT if silent else self._base)
        return next((fault for fault in faults if fault != Reason.NONE), Reason.NONE)

    def _count_publishers(self) -> None:
        counts = {
            topic.name: self.count_publishers(self.resolve_topic_name(topic.name))
            for topic in (POLICY_CMD_VEL, cmd_vel_topic(self._robot_params.cmd_vel_type))
        }
        several = {name: count for name, count in counts.items() if count > 1}
        self._second = Reason.COMMAND_SECOND_PUBLISHER if several else Reason.NONE
        for name, count in several.items():
            self.get_logger().error(f"{name} has {count} publishers: stop all but one", throttle_duration_sec=5.0)

    # Services.

    def _on_stop(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._take(stop_requested=True)
        return self._answer(response, lambda level: level == Level.EMERGENCY)

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._take(reset_requested=True)
        return self._answer(response, lambda level: level != Level.EMERGENCY)

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._enabled = request.data
        return self._answer(response, lambda level: True)

    def _on_dock(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        before = self._state.docking
        self._take(dock=request.data)
        self._answer(response, lambda level: (self._state.docking is not None) == request.data)
        if before is not None and request.data:
            response.success = False
            left_s = before.left_s(self.now_ns())
            response.message = f"a docking is under way, {left_s:.1f} s are left; call again when it has ended"
        return response

    def _answer(self, response: Any, success: Any) -> Any:
        """Act at once, and say what came of it."""
        self._step()
        response.success = success(self._decision.level)
        response.message = f"{self._decision.level.name} {self._decision.reason.name}"
        return response

    # Stepping.

    def _tick(self) -> None:
        """One period: the command first, whatever else there is to do after it."""
        self._step()
        self._ticks += 1
        for chore in self._chores:
            if self._ticks % chore.every == 0:
                chore.do()

    def _step(self) -> None:
        began_ns, now_ns, inp = self.steady_ns(), self.now_ns(), self._input
        newest_ns = max(inp.scan.stamp_ns if inp.scan else 0, inp.odom.stamp_ns if inp.odom else 0)
        lost = self.get_clock().ros_time_is_active and self._watch.lost(began_ns, now_ns, newest_ns)
        given = replace(
            inp,
            now_ns=now_ns,
            enabled=self.active and self._enabled,
            contact=inp.contact or self._touched,
            clock_lost=lost,
            gap_s=(began_ns - self._stepped_ns) / NS,
            fault=self._node_fault(began_ns),
        )
        before = self._state
        self._state, decision = step(before, given, self._model)
        self._box.record(before, given, decision)
        self._touched = False
        self._take(stop_requested=False, reset_requested=False, teleop_heard=False, dock=None)
        self._log_docking(before.docking, self._state.docking, decision)
        self._publish(decision, sent_stamp_ns(now_ns, self._sent_ns, newest_ns, self._params.future_tolerance_s))
        self._log_change(decision)
        if decision.level == Level.EMERGENCY != self._decision.level:
            self._dump_box(decision)
        self._decision = decision
        self._periods_s.append((began_ns - self._stepped_ns) / NS)
        self._steps_s.append((self.steady_ns() - began_ns) / NS)
        self._stepped_ns = began_ns

    def _dump_box(self, decision: Decision) -> None:
        """Write the black box, in a thread: the guard goes on."""
        if not self._box_dir or self._dump.is_alive():
            return
        node = self.get_fully_qualified_name().strip("/").replace("/", "_")
        path = Path(self._box_dir).expanduser() / f"{node}_{decision.reason.name}_{time.time_ns()}.gz"
        entries = self._box.snapshot()

        def dump() -> None:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                write(entries, self._model, path)
                self.get_logger().info(f"black box written to {path}")
            except OSError as error:
                self.get_logger().error(f"no black box: {error}")

        self._dump = Thread(target=dump, name="black box")
        self._dump.start()

    def _publish(self, decision: Decision, stamp_ns: int) -> None:
        self._sent_ns = stamp_ns
        command = Command(stamp_ns, decision.speed_mps, decision.yaw_rate_radps)
        stamped = cmd_vel_topic(self._robot_params.cmd_vel_type).type is TwistStamped
        frame = self._robot_params.base_frame
        self._cmd_vel.publish(command_to_message(command, frame) if stamped else twist_to_message(command))
        judged_ns = self._input.command.stamp_ns if self._input.command else 0
        self._safety.publish(decision_to_message(SafetyState(stamp_ns, judged_ns, decision)))

    def _log_docking(self, before: Docking | None, after: Docking | None, decision: Decision) -> None:
        if before is None and after is not None:
            self.get_logger().warning(
                f"docking begins: margin {self._model.docking_checker.params.margin_m:g} m for at most "
                f"{self._params.docking_s:g} s, within {self._params.docking_radius_m:g} m"
            )
        elif before is not None and after is None:
            self.get_logger().warning(f"docking has ended ({decision.level.name} {decision.reason.name})")

    def _log_change(self, decision: Decision) -> None:
        before = self._decision
        if (decision.level, decision.reason) == (before.level, before.reason):
            return
        numbers = ", ".join(f"{name} {value:.4g}" for name, value in decision.numbers)
        text = f"{decision.level.name} {decision.reason.name}" + (f" ({numbers})" if numbers else "")
        if decision.level >= Level.STOP:
            self.get_logger().warning(text)
        elif before.level >= Level.STOP:
            self.get_logger().info(text)
        else:
            self.get_logger().debug(text)  # full and limited drive alternate many times a second

    def _status(self) -> DiagnosticStatus:
        decision = self._decision
        status = DiagnosticStatus(
            level=SEVERITY[decision.level],
            name="safety_guard",
            message=f"{decision.level.name} {decision.reason.name}",
        )
        status.values = value_pairs(
            level=int(decision.level),
            reason=int(decision.reason),
            profile="static" if self._params.obstacle_speed_mps_max == 0.0 else "dynamic",
            obstacle_speed_mps_max=self._params.obstacle_speed_mps_max,
            period_p50_s=percentile(self._periods_s, 50),
            period_p99_s=percentile(self._periods_s, 99),
            step_p99_s=percentile(self._steps_s, 99),
            late_s=self._state.late_s,
            docking_left_s=self._state.docking.left_s(self.now_ns()) if self._state.docking else 0.0,
        )
        return status


def main() -> int:
    """The guard as a process; returns its exit status."""
    return spin(GuardNode)


if __name__ == "__main__":
    sys.exit(main())
