"""The node ``policy``: on each scan that is due, the bundle's command on ``policy/cmd_vel``, stamped as the scan.

Without a goal it is silent. At the goal it commands zero until the robot stands, and is silent then. For a bundle that
follows a plan the goal is the plan's end.
"""

from __future__ import annotations

import sys
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus

from dsac_robot.bundle.deployed import DeployedPolicy
from dsac_robot.core.history import MissingSampleError
from dsac_robot.core.navigate import NavigateParams, goal_distance_m
from dsac_robot.core.observation import Observation
from dsac_robot.core.params import param
from dsac_robot.core.path import way_left_m
from dsac_robot.core.values import NS, Command, Goal, Odom, Plan, Sample
from dsac_robot.nodes.converters import command_to_message
from dsac_robot.nodes.inputs import (
    BundleParams,
    ObservationInputs,
    RobotParams,
    bundle_of,
    providers_of,
    robot_of,
    signature_of,
)
from dsac_robot.nodes.lifecycle import StackNode, percentile, value_pairs
from dsac_robot.nodes.run import spin
from dsac_robot.nodes.topics import POLICY_CMD_VEL

STANDING_MPS = 0.02
STANDING_RADPS = 0.02
LATENCIES_KEPT = 1000


@dataclass(frozen=True)
class PolicyParams:
    """Parameters of the policy node alone."""

    goal_tolerance_m: float = param(
        NavigateParams.goal_tolerance_m,
        unit="m",
        low=0.01,
        high=10.0,
        help="within this distance the goal is reached; of a plan: along it",
    )


class PolicyNode(StackNode):
    """The node ``policy``."""

    def __init__(self, arguments: list[str] | None = None, context: Any = None) -> None:
        super().__init__("policy", RobotParams, BundleParams, PolicyParams, arguments=arguments, context=context)

    def configure(self) -> None:
        robot_params, params = self.values(RobotParams), self.values(BundleParams)
        robot, self._bundle = robot_of(robot_params), bundle_of(params)
        self._tolerance_m = self.values(PolicyParams).goal_tolerance_m
        self._frame = robot_params.base_frame
        self._policy = DeployedPolicy(self._bundle, robot, providers=providers_of(params))
        self._forget()
        self._ages_s: deque[float] = deque(maxlen=LATENCIES_KEPT)  # of the scan, in ROS time, when its command leaves
        self._delays_s: deque[float] = deque(maxlen=LATENCIES_KEPT)  # steady, from the scan's coming to its command
        self._asked_ns = 0
        self._ticks = self._missing = 0
        self._missed = ""
        self._publisher = self.publisher(POLICY_CMD_VEL)
        follows = self._policy.follows_plan
        self._inputs = ObservationInputs(
            self, robot_params, robot, params, follows, self._add, self._tick, self._reset, self._on_scan
        )
        self.diagnose(1.0, self._status)
        self.get_logger().info(
            f"bundle {self._bundle.card.name} {self._bundle.digest[:16]}, signed by {signature_of(self._bundle)}; "
            f"{self._policy.report}"
        )

    def _forget(self) -> None:
        self._goal: Goal | Plan | None = None
        self._odom: Odom | None = None
        self._arrived = False  # at the present goal, or the present plan's end
        self._silent = True

    def _reset(self) -> None:
        self._policy.reset()
        self._forget()

    def _add(self, sample: Sample) -> None:
        self._policy.add(sample)
        if isinstance(sample, Plan if self._policy.follows_plan else Goal):
            same = self._goal is not None and _same(sample, self._goal)
            self._goal = sample
            if not same:  # planners send the same one again and again
                self._arrived = self._silent = False
        elif isinstance(sample, Odom):
            self._odom = sample

    @property
    def observation(self) -> Observation | None:
        """The observation of the newest tick."""
        return self._policy.observation

    def _on_scan(self, stamp_ns: int) -> None:
        if self.active and not self._silent and not self._inputs.waiting and self._policy.due(stamp_ns):
            self._asked_ns = self.steady_ns()
            self._inputs.request(stamp_ns)

    def _tick(self, stamp_ns: int) -> None:
        if not self.active:
            return
        try:
            command = self._policy.tick(stamp_ns)
        except MissingSampleError as error:
            self._missing, self._missed = self._missing + 1, str(error)
            return
        if self._at_goal():
            command = Command(stamp_ns, 0.0, 0.0)
        self._publisher.publish(command_to_message(command, self._frame))
        self._ticks += 1
        self._ages_s.append((self.now_ns() - stamp_ns) / NS)
        self._delays_s.append((self.steady_ns() - self._asked_ns) / NS)

    def _at_goal(self) -> bool:
        """Whether the present goal has been reached; says so once, and ends the ticks once the robot stands."""
        if self._goal is None or self._odom is None:
            return False
        if not self._arrived and _left_m(self._odom, self._goal) < self._tolerance_m:
            self._arrived = True
            x, y = self._goal.points_m[-1] if isinstance(self._goal, Plan) else (self._goal.x_m, self._goal.y_m)
            self.get_logger().info(f"goal ({x:.2f}, {y:.2f}) m reached")
        standing = abs(self._odom.speed_mps) < STANDING_MPS and abs(self._odom.yaw_rate_radps) < STANDING_RADPS
        self._silent = self._arrived and standing
        return self._arrived

    def _status(self) -> DiagnosticStatus:
        bundle = self._bundle
        status = DiagnosticStatus(level=DiagnosticStatus.OK, name="policy", message=self._state())
        if bundle.signed_by is None:
            status.level, status.message = DiagnosticStatus.WARN, f"UNSIGNED bundle; {status.message}"
        status.values = value_pairs(
            bundle=bundle.card.name,
            bundle_digest=bundle.digest,
            signed_by=signature_of(bundle),
            provider=self._policy.report.provider,
            provider_problems="; ".join(self._policy.report.problems),
            ticks=self._ticks,
            scan_age_p50_s=percentile(self._ages_s, 50),
            scan_age_p99_s=percentile(self._ages_s, 99),
            scan_to_command_p50_s=percentile(self._delays_s, 50),
            scan_to_command_p99_s=percentile(self._delays_s, 99),
            ticks_without_samples=self._missing,
            last_missing=self._missed,
        )
        return status

    def _state(self) -> str:
        if not self.active:
            return "inactive"
        if self._goal is None:
            return "no plan" if self._policy.follows_plan else "no goal"
        return "at the goal" if self._arrived else "driving"


def _same(new: Sample, old: Goal | Plan) -> bool:
    """Whether two goals, or two plans, ask for the same."""
    if isinstance(new, Plan) and isinstance(old, Plan):
        return new.speed_mps == old.speed_mps and np.array_equal(new.points_m, old.points_m)
    return isinstance(new, Goal) and isinstance(old, Goal) and (new.x_m, new.y_m) == (old.x_m, old.y_m)


def _left_m(odom: Odom, goal: Goal | Plan) -> float:
    """What is left to go: to the goal, or along the plan to its end (a plan may end where it began)."""
    return way_left_m(odom, goal) if isinstance(goal, Plan) else goal_distance_m(odom, goal)


def main() -> int:
    """The policy as a process; returns its exit status."""
    return spin(PolicyNode)


if __name__ == "__main__":
    sys.exit(main())
