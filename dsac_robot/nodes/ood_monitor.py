"""The node ``ood_monitor``: rebuilds the observation of each command from the raw topics, and judges both.

It publishes ``ood/state`` and shares nothing with the policy but the bundle. A sample that it lacks is a fault, and
published as an alarm.
"""

from __future__ import annotations

import sys
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import TwistStamped

from dsac_robot.bundle.deployed import DeployedMonitor
from dsac_robot.core.guard_types import Verdict
from dsac_robot.core.observation import Observation
from dsac_robot.core.reasons import OodLevel, Reason
from dsac_robot.core.values import Command, Sample
from dsac_robot.nodes.inputs import (
    BundleParams,
    ObservationInputs,
    RobotMessages,
    RobotParams,
    bundle_of,
    providers_of,
    robot_of,
    signature_of,
)
from dsac_robot.nodes.lifecycle import StackNode, value_pairs
from dsac_robot.nodes.run import spin
from dsac_robot.nodes.states import verdict_to_message
from dsac_robot.nodes.topics import OOD_STATE, POLICY_CMD_VEL


class MonitorNode(StackNode):
    """The node ``ood_monitor``."""

    def __init__(self, arguments: list[str] | None = None, context: Any = None) -> None:
        super().__init__("ood_monitor", RobotParams, BundleParams, arguments=arguments, context=context)

    def configure(self) -> None:
        robot_params, params = self.values(RobotParams), self.values(BundleParams)
        robot, self._bundle = robot_of(robot_params), bundle_of(params)
        self._monitor = DeployedMonitor(self._bundle, robot, providers=providers_of(params))
        self._messages = RobotMessages(robot_params, robot)
        self._commands: dict[int, Command] = {}  # to be judged, by stamp
        self._newest: Verdict | None = None
        self._judged = self._faults = self._alarms = 0
        self._publisher = self.publisher(OOD_STATE)
        self._inputs = ObservationInputs(
            self, robot_params, robot, params, self._monitor.follows_plan, self._add, self._judge, self._reset
        )
        self.subscribe(POLICY_CMD_VEL, self._on_command)
        self.diagnose(1.0, self._status)
        self.get_logger().info(
            f"bundle {self._bundle.card.name} {self._bundle.digest[:16]}, signed by {signature_of(self._bundle)}; "
            f"{self._monitor.report}"
        )

    @property
    def observation(self) -> Observation | None:
        """The observation of the newest judgement."""
        return self._monitor.observation

    def _add(self, sample: Sample) -> None:
        self._monitor.add(sample)

    def _reset(self) -> None:
        self._monitor.reset()
        self._commands.clear()
        self._newest = None

    def _on_command(self, message: TwistStamped) -> None:
        command = self._messages.command(message)
        if self.active:
            self._commands[command.stamp_ns] = command
            self._inputs.request(command.stamp_ns)

    def _judge(self, stamp_ns: int) -> None:
        command = self._commands.pop(stamp_ns, None)
        if command is None or not self.active:
            return
        now_ns = max(self.now_ns(), stamp_ns)  # the verdict's stamp: never before the command that it is about
        if self._inputs.has_scan(stamp_ns):
            verdict = self._monitor.judge(command, now_ns)
        else:
            verdict = Verdict(now_ns, stamp_ns, OodLevel.ALARM, Reason.MONITOR_FAULT)
        self._publisher.publish(verdict_to_message(verdict))
        self._newest = verdict
        self._judged += 1
        self._alarms += verdict.level == OodLevel.ALARM
        self._faults += verdict.reason == Reason.MONITOR_FAULT

    def _status(self) -> DiagnosticStatus:
        status = DiagnosticStatus(level=DiagnosticStatus.OK, name="ood_monitor", message="inactive")
        if self.active:
            status.message = self._newest.level.name if self._newest else "no command yet"
        if self._bundle.signed_by is None:
            status.level, status.message = DiagnosticStatus.WARN, f"UNSIGNED bundle; {status.message}"
        if self._newest is not None and self._newest.level == OodLevel.ALARM:
            status.level = DiagnosticStatus.ERROR
        status.values = value_pairs(
            bundle=self._bundle.card.name,
            bundle_digest=self._bundle.digest,
            signed_by=signature_of(self._bundle),
            provider=self._monitor.report.provider,
            provider_problems="; ".join(self._monitor.report.problems),
            commands_judged=self._judged,
            alarms=self._alarms,
            faults=self._faults,
        )
        return status


def main() -> int:
    """The monitor as a process; returns its exit status."""
    return spin(MonitorNode)


if __name__ == "__main__":
    sys.exit(main())
