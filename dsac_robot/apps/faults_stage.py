"""Where ``bench faults`` plays: simulated robot and guard as processes, and a node that drives, breaks and measures.

All times are those of the simulation's own stamps; the fault's instant is the newest truth before it.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from std_srvs.srv import SetBool, Trigger

from dsac_robot.apps.ros_call import call, set_texts
from dsac_robot.apps.up_processes import Processes
from dsac_robot.core.reasons import Level, Reason
from dsac_robot.core.values import NS, Command, Odom, ns
from dsac_robot.nodes.converters import command_to_message, contact_from_message, odom_from_message
from dsac_robot.nodes.run import make_executor
from dsac_robot.nodes.states import SafetyState, decision_from_message
from dsac_robot.nodes.topics import CONTACT, POLICY_CMD_VEL, SAFETY_STATE, cmd_vel_topic
from sim.ros_truth import TRUTH

REST_MPS = 0.02
STAYS_S, SPRING_M = 0.3, 0.02  # so much later it must still be there, give or take the spring of its tyres
COMMAND_S = 0.05  # between two commands
PATIENCE_S = 90.0  # of the wall clock
SETTLE_S = 0.6  # of simulated time after a new start, for the guard's dwell
RECOVER_S = 6.0  # of simulated time


class FaultsError(RuntimeError):
    """The benchmark cannot go on. The message says what it waited for."""


@dataclass(frozen=True)
class Stop:
    """How the robot came to rest after a fault."""

    speed_mps: float  # when it struck
    time_s: float
    distance_m: float  # along its path
    reason: Reason  # of the first stop that the guard named; NONE where it named none
    touched: bool
    recovered: bool  # drives again after the documented way


def stop_of(struck: Odom, truth: list[Odom]) -> tuple[float, float] | None:
    """Time and distance to rest since ``struck``; None while the robot has not been at rest for a while."""
    later = [odom for odom in truth if odom.stamp_ns >= struck.stamp_ns]
    rest = next((i for i, odom in enumerate(later) if abs(odom.speed_mps) < REST_MPS), None)
    if rest is None or later[-1].stamp_ns < later[rest].stamp_ns + ns(STAYS_S):
        return None
    if max(math.hypot(o.x_m - later[rest].x_m, o.y_m - later[rest].y_m) for o in later[rest:]) > SPRING_M:
        return None  # it moves on: not at rest yet
    distance = sum(math.hypot(b.x_m - a.x_m, b.y_m - a.y_m) for a, b in pairwise(later[: rest + 1]))
    return (later[rest].stamp_ns - struck.stamp_ns) / NS, distance


class FaultStage:
    """The benchmark's node. Needs rclpy initialised; ``close`` at the end. It may play the policy."""

    def __init__(self, processes: Processes, namespace: str, plays_policy: bool) -> None:
        import rclpy

        self.processes = processes
        self.node = rclpy.create_node("bench_faults", namespace=namespace)
        self._executor = make_executor()
        self._executor.add_node(self.node)
        self.truth: list[Odom] = []
        self.safety: list[SafetyState] = []
        self.touched = False
        for topic, take in (
            (TRUTH, self._on_truth),
            (SAFETY_STATE, lambda m: self.safety.append(decision_from_message(m))),
            (CONTACT, self._on_contact),
        ):
            self.node.create_subscription(topic.type, topic.name, take, topic.qos)
        self.asked: tuple[float, float] | None = None  # what the policy played here asks; None: it is silent
        self.age_s = 0.0  # of the stamps of its commands
        self._asked_ns = 0
        self.command = self._publisher(POLICY_CMD_VEL) if plays_policy else None
        self._second: Any = None
        self._slowed: tuple[str, int, int, int] | None = None  # process, since when, ns stopped, ns running
        self._held = False
        # A policy takes the very same goal for one that it has reached already.
        self._by_way_of = ("empty",) if plays_policy else ("clutter:0", "empty")
        self._heard = 0  # of safety/state before the fault

    def close(self) -> None:
        """Destroy the node."""
        self._executor.remove_node(self.node)
        self.node.destroy_node()
        self._executor.shutdown()

    def _publisher(self, topic: Any) -> Any:
        return self.node.create_publisher(topic.type, topic.name, topic.qos)

    def _on_truth(self, message: Any) -> None:
        self.truth.append(odom_from_message(message))
        now_ns = self.truth[-1].stamp_ns
        if self._slowed is not None:
            name, since_ns, stopped_ns, running_ns = self._slowed
            self.hold(name, (now_ns - since_ns) % (stopped_ns + running_ns) < stopped_ns)
        if self.command is not None and self.asked is not None and now_ns >= self._asked_ns + ns(COMMAND_S):
            self._asked_ns = now_ns
            self.command.publish(command_to_message(Command(now_ns - ns(self.age_s), *self.asked), "base_link"))

    def _on_contact(self, message: Any) -> None:
        self.touched |= contact_from_message(message).touching

    @property
    def now_s(self) -> float:
        """Simulated time."""
        return self.truth[-1].stamp_ns / NS if self.truth else 0.0

    @property
    def speed_mps(self) -> float:
        """True speed."""
        return self.truth[-1].speed_mps if self.truth else 0.0

    # Waiting.

    def until(self, done: Callable[[], bool], what: str, sim_s: float = math.inf) -> bool:
        """Spin until ``done()``, or for ``sim_s`` of simulated time: then False. FaultsError when patience ends."""
        begun_s, end_s = self.now_s, time.monotonic() + PATIENCE_S
        while not done():
            self._executor.spin_once(timeout_sec=0.1)
            self.processes.check()
            if self.now_s - begun_s > sim_s:
                return done()
            if time.monotonic() > end_s:
                raise FaultsError(f"waited {PATIENCE_S:.0f} s in vain: {what}")
        return True

    def call(self, kind: Any, name: str, request: Any = None) -> Any:
        """Call a service and wait for its answer."""
        return call(self.node, self.until, kind, name, request)

    # Breaking and mending.

    def faults(self, **wanted: str) -> None:
        """Set fault parameters of the simulated robot."""
        refused = set_texts(self.node, self.until, "sim_bridge", wanted)
        if refused:
            raise FaultsError(f"the simulator refuses {'; '.join(refused)}")

    def second_publisher(self, name: str) -> None:
        """Another publisher on the policy's or the guard's topic. It says nothing."""
        self._second = self._publisher(POLICY_CMD_VEL if name == "policy" else cmd_vel_topic("TwistStamped"))

    def hold(self, name: str, stopped: bool) -> None:
        """SIGSTOP or SIGCONT."""
        if stopped != self._held:
            self.processes.send_signal(name, signal.SIGSTOP if stopped else signal.SIGCONT)
            self._held = stopped

    def slow(self, name: str, stopped_s: float, running_s: float) -> None:
        """Stop and continue a process over and over, by simulated time."""
        self._slowed = (name, self.truth[-1].stamp_ns, ns(stopped_s), ns(running_s))
        self.hold(name, True)

    def mend(self, held: str | None, parameters: Mapping[str, str]) -> None:
        """Undo whatever was done."""
        if held is not None:
            self._slowed = None
            self.hold(held, False)
        if parameters:
            self.faults(**dict.fromkeys(parameters, "none"))
        if self._second is not None:
            self.node.destroy_publisher(self._second)
            self._second = None

    # One drive.

    def restart(self, speed_mps: float) -> None:
        """At rest at the start of the world, nothing broken; then up to speed."""
        self.asked, self.age_s = None, 0.0
        self.until(lambda: bool(self.truth) and bool(self.safety), "robot and guard")
        self.call(SetBool, "safety_guard/enable", SetBool.Request(data=False))
        self.until(lambda: abs(self.speed_mps) < REST_MPS, "the robot at rest")
        for world in self._by_way_of:
            self.faults(world=world)
            self.call(Trigger, "sim_bridge/restart")
            self.until(lambda: False, "time", SETTLE_S)
        self.truth, self.safety, self.touched = self.truth[-1:], self.safety[-1:], False
        self.call(Trigger, "safety_guard/reset")
        self.call(SetBool, "safety_guard/enable", SetBool.Request(data=True))  # vouches for the floor around it
        self.asked = (speed_mps, 0.0)
        if not self.until(lambda: self.speed_mps > 0.97 * speed_mps - 0.005, "up to speed", 30.0):
            raise FaultsError(f"the robot never reached {speed_mps} m/s: {self.safety[-1].decision}")

    def measure(self, strike: Callable[[], None]) -> tuple[Odom, tuple[float, float]]:
        """Strike, and wait until the robot is at rest."""
        struck, self._heard = self.truth[-1], len(self.safety)
        strike()
        self.until(lambda: stop_of(struck, self.truth) is not None, "the robot at rest")
        stop = stop_of(struck, self.truth)
        assert stop is not None
        return struck, stop

    def reason(self) -> Reason:
        """The reason of the first stop that the guard named since the fault; NONE where it named none."""
        since = (said.decision for said in self.safety[self._heard :])
        return next((decision.reason for decision in since if decision.level >= Level.STOP), Reason.NONE)

    def drives_again(self, reset: bool) -> bool:
        """Whether the robot drives again, after ``~/reset`` where that is the documented way."""
        if reset:
            self.call(Trigger, "safety_guard/reset")
        return self.until(lambda: abs(self.speed_mps) > 0.05, "recovery", RECOVER_S)
