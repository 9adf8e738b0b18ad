"""A peer of the learned policy: samples in, commands out, with nothing but lidar, odometry, the goal and what was sent.

It has the interface that the closed loop drives a bundle's policy by. What differs between the peers is the planner.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from dsac_robot.core.history import History
from dsac_robot.core.kinematics import move_along_arc
from dsac_robot.core.params import param
from dsac_robot.core.robot import Robot
from dsac_robot.core.values import NS, Command, Floats32, Goal, Odom, Sample, Scan, ns
from sim.peers.cost_to_go import CostToGo, InflationParams, plan
from sim.peers.rolling_map import RollingMap
from sim.peers.situation import Body, Situation, arcs

INFERENCE_S = 0.005  # as the closed loop counts it
RECOVERY_TIMES_S = np.linspace(0.1, 0.6, 6)


class Planner(Protocol):
    """Chooses a twist in a situation."""

    def reset(self) -> None:
        """Forget what was before: a new run."""

    def choose(self, now: Situation) -> tuple[float, float]:
        """Speed (m/s) and yaw rate (rad/s)."""


@dataclass(frozen=True)
class PeerParams:
    """What all peers share. The defaults were chosen on clutter from this project's generator, not on BARN's worlds."""

    control_period_s: float = param(0.1, unit="s", low=0.025, high=1.0, help="as the shipped policy's")
    planner_period_s: float = param(0.2, unit="s", low=0.025, high=5.0, help="the cost to go is planned anew so often")
    stuck_s: float = param(2.0, unit="s", low=0.5, high=60.0, help="no progress for so long starts a recovery")
    stuck_m: float = param(0.15, unit="m", low=0.01, high=2.0, help="less motion than this is no progress")
    recovery_s: float = param(1.2, unit="s", low=0.1, high=10.0, help="a recovery lasts so long")
    recovery_mps: float = param(0.3, unit="m/s", low=0.01, high=2.0, help="speed of backing off in it")
    recovery_radps: float = param(0.8, unit="rad/s", low=0.01, high=10.0, help="yaw rate of turning in it")
    recovery_margin_m: float = param(0.03, unit="m", low=0.0, high=0.5, help="clearance kept in it")


class Peer:
    """A planner on a rolling map, with a recovery where it gets stuck (as move_base's: back off, else turn)."""

    observation: dict[str, Floats32] | None = None  # a peer has no network to observe for

    def __init__(
        self,
        robot: Robot,
        planner: Planner,
        params: PeerParams = PeerParams(),
        inflation: InflationParams = InflationParams(),
    ) -> None:
        self._body, self._planner, self._params, self._inflation = Body.of(robot), planner, params, inflation
        acts = robot.actuation
        self._delay_s = INFERENCE_S + acts.action_delay_s + acts.response_delay_s + acts.motor_time_constant_s
        half_scan_s = 0.5 / robot.lidar.rate_hz
        self._spacing_ns = ns(params.control_period_s - half_scan_s)
        self._planning_ns = ns(params.planner_period_s - half_scan_s)
        self.reset()

    def reset(self) -> None:
        """Forget all (a new run)."""
        self._history = History()
        self._map = RollingMap(self._body.robot.lidar)
        self._last_tick_ns: int | None = None
        self._progress: tuple[int, float, float] | None = None  # since when, and where
        self._recovery: tuple[int, float, float] | None = None  # until when, speed, yaw rate
        self._way: tuple[int, CostToGo] | None = None  # planned when
        self._planner.reset()

    def add(self, sample: Sample) -> None:
        """Take in one sample."""
        self._history.add(sample)

    def due(self, scan_stamp_ns: int) -> bool:
        """True if a tick is due on this scan."""
        return self._last_tick_ns is None or scan_stamp_ns >= self._last_tick_ns + self._spacing_ns

    def tick(self, scan_stamp_ns: int) -> Command:
        """The command for the scan of that stamp. Raises MissingSampleError while a sample is not there yet."""
        now = self._situation(scan_stamp_ns)
        self._last_tick_ns = scan_stamp_ns
        speed, yaw_rate = self._recover(scan_stamp_ns, now) or self._planner.choose(now)
        limits = self._body.robot.limits
        return Command(
            scan_stamp_ns,
            float(np.clip(speed, limits.speed_mps_min, limits.speed_mps_max)),
            float(np.clip(yaw_rate, -limits.yaw_rate_radps_max, limits.yaw_rate_radps_max)),
        )

    def _situation(self, stamp_ns: int) -> Situation:
        scan = self._history.newest(Scan, stamp_ns)
        odom = self._history.newest(Odom, stamp_ns)
        goal = self._history.newest(Goal, stamp_ns)
        sent = self._history.last(Command) or Command(stamp_ns, 0.0, 0.0)
        old_s = (stamp_ns - odom.stamp_ns) / NS
        at_scan = move_along_arc(odom.x_m, odom.y_m, odom.yaw_rad, odom.speed_mps * old_s, odom.yaw_rate_radps * old_s)
        self._map.update(scan, at_scan)
        distance, low = self._map.distances(), self._map.low_m
        if self._way is None or stamp_ns >= self._way[0] + self._planning_ns:
            goal_m = (goal.x_m, goal.y_m)
            self._way = (stamp_ns, plan(distance, low, goal_m, self._body.inscribed_m, self._inflation))
        acts = move_along_arc(*at_scan, sent.speed_mps * self._delay_s, sent.yaw_rate_radps * self._delay_s)
        return Situation(
            acts, sent.speed_mps, sent.yaw_rate_radps, (goal.x_m, goal.y_m), distance, low, self._way[1], self._body
        )

    def _recover(self, now_ns: int, now: Situation) -> tuple[float, float] | None:
        """The twist of a recovery, None where there is no need."""
        params = self._params
        if self._recovery is not None:
            until_ns, speed, rate = self._recovery
            if now_ns < until_ns and self._is_free(now, speed, rate):
                return speed, rate
            self._recovery, self._progress = None, None
        x, y, _ = now.pose
        if self._progress is None or math.dist(self._progress[1:], (x, y)) > params.stuck_m:
            self._progress = (now_ns, x, y)
        elif now_ns - self._progress[0] > ns(params.stuck_s):
            back, turn = params.recovery_mps, params.recovery_radps
            for twist in ((-back, 0.0), (-back, 0.5), (-back, -0.5), (0.0, turn), (0.0, -turn)):
                if self._is_free(now, *twist):
                    self._recovery = (now_ns + ns(params.recovery_s), twist[0], twist[1])
                    return twist
            self._progress = None
        return None

    def _is_free(self, now: Situation, speed: float, yaw_rate: float) -> bool:
        poses = arcs(now.pose, np.array([speed]), np.array([yaw_rate]), RECOVERY_TIMES_S)
        return bool(now.clearance_m(poses).min() > now.margin_m(self._params.recovery_margin_m, 0.0, np.array(speed)))
