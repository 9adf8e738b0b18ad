"""The deployed stack in process: simulator, policy, monitor and guard, tick by tick, with the very classes that the
nodes use. BARN runs, calibration drives and the parity gate all go through ``drive``."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from dsac_robot.core.action import Ramp
from dsac_robot.core.guard import GuardModel, initial_state, step
from dsac_robot.core.guard_types import GuardInput, GuardParams, Verdict
from dsac_robot.core.history import MissingSampleError
from dsac_robot.core.navigate import CAUSED_MPS
from dsac_robot.core.observation import Observation, flatten
from dsac_robot.core.params import ParameterError
from dsac_robot.core.path import path_errors, way_left_m
from dsac_robot.core.reasons import Level, OodLevel, Reason
from dsac_robot.core.robot import Robot
from dsac_robot.core.track import TrackParams
from dsac_robot.core.values import NS, Command, Contact, Floats, Floats32, Goal, Odom, Plan, Sample, Scan, ns

if TYPE_CHECKING:
    from dsac_robot.bundle.deployed import DeployedMonitor
    from sim.simulator import SimParams, Simulator
    from sim.worlds import World

INFERENCE_S = 0.005  # a scan's command and verdict reach the guard this long after the scan
TRACE_PERIOD = 5  # guard periods between two rows of the trace


class Policy(Protocol):
    """What drives: the bundle's policy, or a peer of it."""

    @property
    def observation(self) -> Observation | None:
        """What the last tick was decided on, by term; None where that is not kept."""

    def reset(self) -> None:
        """Forget everything."""

    def add(self, sample: Sample) -> None:
        """Take in a sample."""

    def due(self, scan_stamp_ns: int) -> bool:
        """Whether a scan of this stamp is a tick."""

    def tick(self, scan_stamp_ns: int) -> Command:
        """The command at this tick. Raises MissingSampleError before the samples for one are there."""


@dataclass(frozen=True)
class LoopParams:
    """How one drive goes."""

    time_limit_s: float = 100.0
    goal_tolerance_m: float = 1.0  # in a world with a route: along it, to its end
    off_path_m: float = TrackParams.off_path_m  # a route is left beyond this lateral error
    start_jitter_m: float = 0.0  # start position, uniform in both axes
    start_jitter_rad: float = 0.0  # start heading, uniform


@dataclass(frozen=True)
class Drive:
    """What came of one drive."""

    outcome: str  # success | contact | timeout | off_path
    time_s: float
    caused: bool  # a contact at a speed above 0.02 m/s
    touch_speed_mps: float
    path_m: float
    level_s: tuple[float, ...]  # time spent in each Level
    reasons: dict[str, int]  # guard periods by reason
    cautions: int  # ticks that the monitor judged CAUTION
    alarms: int
    trace: Floats  # (T, 7): t, x, y, yaw, speed, level, reason
    observations: Floats32  # (N, D) at the policy's ticks
    commands: Floats32  # (N, 2) what the policy asked
    scores: Floats  # (N, K) of the monitor; K = 0 without one


@dataclass(frozen=True)
class Moment:
    """One guard period of a drive, as an observer sees it. Looking must not change the simulator."""

    time_s: float
    sim: Simulator
    scan: Scan | None  # the newest
    sent: Command
    level: Level
    reason: Reason
    verdict: OodLevel | None  # of the command in use


def drive(
    robot: Robot,
    world: World,
    seed: int,
    policy: Policy,
    monitor: DeployedMonitor | None,
    guard: GuardParams | None,
    params: LoopParams = LoopParams(),
    plant: Robot | None = None,
    sim_params: SimParams | None = None,
    observer: Callable[[Moment], None] | None = None,
) -> Drive:
    """Drive ``world`` once from start to goal, or along its route to the end. Without ``guard`` the policy's commands
    are only ramped; without ``monitor`` the guard needs no verdicts. ``plant`` is the robot as it truly is where that
    differs from ``robot``, the description that policy, monitor, guard and base go by. ``observer`` is shown each guard
    period. Same arguments, same drive. Raises ParameterError where the policy follows a plan and the world has no
    route."""
    from dsac_robot.bundle.deployed import DeployedPolicy
    from sim.simulator import SimParams, Simulator

    if world.route is None and isinstance(policy, DeployedPolicy) and policy.follows_plan:
        raise ParameterError(
            f"bundle {policy.card.name!r} follows a plan, and world {world.name} has no route: give one such as track:0"
        )
    rng = np.random.default_rng(seed)
    jitter = rng.uniform(-1.0, 1.0, 3) * [params.start_jitter_m, params.start_jitter_m, params.start_jitter_rad]
    x, y, yaw = (float(a + b) for a, b in zip(world.start, jitter, strict=True))
    placed, sim_seed = replace(world, start=(x, y, yaw)), int(rng.integers(2**31))
    sim = Simulator(plant or robot, placed, sim_seed, sim_params or SimParams(), nominal=robot)
    plan = world.route.plan(sim.world_to_odom) if world.route else None
    goal = Goal(0, *plan.points_m[-1].tolist()) if plan else Goal(0, *sim.world_to_odom(*world.goal_m))
    loop = _Loop(robot, policy, monitor, guard, (goal, plan) if plan else (goal,))
    outcome = "timeout"
    period_ns, path_m, last = ns(loop.period_s), 0.0, sim.pose
    now_ns = 0
    while now_ns < ns(params.time_limit_s):
        for sample in sim.advance(now_ns):
            loop.take(sample)
        here = sim.pose
        path_m += math.hypot(here[0] - last[0], here[1] - last[1])
        last = here
        ended = "contact" if sim.touched else _ended(sim, world, plan, params)
        if ended:
            outcome = ended
            break
        sim.send(loop.send(now_ns))
        loop.trace(now_ns, here, sim.twist[0])
        if observer is not None:
            observer(loop.moment(now_ns, sim))
        now_ns += period_ns
    return Drive(
        outcome,
        now_ns / NS,
        sim.touched and sim.touch_speed_mps > CAUSED_MPS,
        sim.touch_speed_mps,
        path_m,
        tuple(float(t) for t in loop.level_s),
        loop.reasons,
        loop.verdicts.count(OodLevel.CAUTION),
        loop.verdicts.count(OodLevel.ALARM),
        np.array(loop.rows).reshape(-1, 7),
        np.array(loop.observations, np.float32),
        np.array(loop.commands, np.float32).reshape(-1, 2),
        np.array(loop.scores, np.float64),
    )


def _ended(sim: Simulator, world: World, plan: Plan | None, params: LoopParams) -> str | None:
    """The outcome, once there is one."""
    if plan is not None:
        here = sim.true_odom()
        if abs(path_errors(here, plan).lateral_m) > params.off_path_m:
            return "off_path"
        return "success" if way_left_m(here, plan) < params.goal_tolerance_m else None
    x, y, _ = sim.pose
    return "success" if math.hypot(x - world.goal_m[0], y - world.goal_m[1]) < params.goal_tolerance_m else None


class _Loop:
    """Policy, monitor and guard between samples and commands."""

    def __init__(
        self,
        robot: Robot,
        policy: Policy,
        monitor: DeployedMonitor | None,
        guard: GuardParams | None,
        tasks: Sequence[Goal | Plan],
    ) -> None:
        self.robot, self.policy, self.monitor = robot, policy, monitor
        self.period_s = guard.period_s if guard else 0.02
        if guard is not None and monitor is None:
            guard = replace(guard, require_verdict=False)
        self.model = GuardModel.of(guard, robot) if guard else None
        self.state = initial_state()
        self.level_s = np.zeros(len(Level))
        self.reasons: dict[str, int] = {}
        self.verdicts: list[OodLevel] = []
        self.rows: list[tuple[float, ...]] = []
        self.observations: list[Floats32] = []
        self.commands: list[tuple[float, float]] = []
        self.scores: list[Floats] = []
        self._scan: Scan | None = None
        self._odom: Odom | None = None
        self._ready: list[tuple[int, Command, Verdict | None]] = []  # (usable from, …)
        self._command: Command | None = None
        self._verdict: Verdict | None = None
        self._ramp = Ramp()  # without a guard
        self._sent = Command(0, 0.0, 0.0)
        self._now = (Level.STOP, Reason.COMMAND_MISSING)
        policy.reset()
        if monitor is not None:
            monitor.reset()
        for task in tasks:
            policy.add(task)
            if monitor is not None:
                monitor.add(task)

    def take(self, sample: object) -> None:
        """One sample from the simulator."""
        if isinstance(sample, Contact):
            return
        if isinstance(sample, Odom):
            self._odom = sample
        if isinstance(sample, Odom | Scan):
            self.policy.add(sample)
            if self.monitor is not None:
                self.monitor.add(sample)
        if isinstance(sample, Scan):
            self._scan = sample
            self._tick(sample)

    def _tick(self, scan: Scan) -> None:
        if not self.policy.due(scan.stamp_ns):
            return
        try:
            command = self.policy.tick(scan.stamp_ns)
        except MissingSampleError:  # the stack is not full yet
            return
        verdict = None
        if self.monitor is not None:
            verdict = self.monitor.judge(command)
            self.verdicts.append(verdict.level)
            self.scores.append(self.monitor.scores)
        if self.policy.observation is not None:
            self.observations.append(flatten(self.policy.observation))
        self.commands.append((command.speed_mps, command.yaw_rate_radps))
        self._ready.append((scan.stamp_ns + ns(INFERENCE_S), command, verdict))

    def send(self, now_ns: int) -> Command:
        """The guard's period: what is sent now."""
        while self._ready and self._ready[0][0] <= now_ns:
            _, self._command, self._verdict = self._ready.pop(0)
        if self.model is None:
            asked = (self._command.speed_mps, self._command.yaw_rate_radps) if self._command else (0.0, 0.0)
            self._ramp = self._ramp.toward(asked, self.robot.limits, self.period_s)
            self._sent = Command(now_ns, *self._ramp.twist)
            self._now = (Level.DRIVE, Reason.NONE)
        else:
            inputs = GuardInput(now_ns, self._scan, self._odom, self._command, self._verdict)
            self.state, decision = step(self.state, inputs, self.model)
            self._sent = Command(now_ns, decision.speed_mps, decision.yaw_rate_radps)
            self._now = (decision.level, decision.reason)
        self.level_s[self._now[0]] += self.period_s
        self.reasons[self._now[1].name] = self.reasons.get(self._now[1].name, 0) + 1
        self.policy.add(self._sent)
        if self.monitor is not None:
            self.monitor.add(self._sent)
        return self._sent

    def moment(self, now_ns: int, sim: Simulator) -> Moment:
        """This guard period, for an observer."""
        verdict = self._verdict.level if self._verdict is not None else None
        return Moment(now_ns / NS, sim, self._scan, self._sent, *self._now, verdict)

    def trace(self, now_ns: int, pose: tuple[float, float, float], speed_mps: float) -> None:
        """Note one row now and then."""
        if round(now_ns / NS / self.period_s) % TRACE_PERIOD == 0:
            self.rows.append((now_ns / NS, *pose, speed_mps, float(self._now[0]), float(self._now[1])))
