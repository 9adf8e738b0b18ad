"""One BARN run, in process: what is asked for, what came of it, and how it is scored."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dsac_robot.apps.figures import Figure
from dsac_robot.core.files import load_yaml, share_path
from dsac_robot.core.guard_types import GuardParams
from dsac_robot.core.params import build
from dsac_robot.core.robot import load_robot
from dsac_robot.core.values import Command, Sample

if TYPE_CHECKING:
    from dsac_robot.apps.closed_loop import Drive, Policy
    from dsac_robot.core.observation import Observation
    from sim.worlds import World

SPEED_MPS = 2.0  # of the benchmark's optimal time
TIME_LIMIT_S, GOAL_TOLERANCE_M = 100.0, 1.0
JITTER_M, JITTER_RAD = 0.05, 0.05  # of the start pose; the first trial starts exactly
TARGET_SCORE, TARGET_SUCCESS = 0.47, 0.95
BEST_PUBLISHED = 0.4762  # LiCS-KI, simulation leaderboard 2024
LEARNED = "bundle"  # the policy's name where it is no peer


@dataclass(frozen=True)
class Job:
    """One run."""

    world: int
    trial: int
    folder: str
    bundle: str
    robot: str
    guard: str  # static | dynamic | off
    monitor: bool
    allow_unsigned: bool
    policy: str = LEARNED  # or the name of a peer
    pictures: str = ""  # folder for a picture if the run fails; "": none

    @property
    def seed(self) -> int:
        """Of the run's noise and start pose."""
        return 1000 * self.world + self.trial


@dataclass(frozen=True)
class Run:
    """What came of it."""

    world: int
    trial: int
    outcome: str
    score: float
    time_s: float
    time_over_ot: float
    caused: bool
    path_m: float
    limited_s: float
    stop_s: float
    cautions: int
    alarms: int
    reasons: dict[str, int]
    fallback_s: float = 0.0
    touch_speed_mps: float = 0.0
    tick_cpu_ms: float | None = None  # mean over the run's control ticks; None where it was not measured (--ros)


class TimedPolicy:
    """A policy and the CPU time of this thread that its ticks take: building what it looks at, and deciding."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._cpu_ns, self._ticks = 0, 0

    @property
    def observation(self) -> Observation | None:
        """The policy's."""
        return self._policy.observation

    @property
    def tick_cpu_ms(self) -> float | None:
        """Mean over the ticks since the last reset; None before the first."""
        return self._cpu_ns / self._ticks / 1e6 if self._ticks else None

    def reset(self) -> None:
        """A new run."""
        self._cpu_ns, self._ticks = 0, 0
        self._policy.reset()

    def add(self, sample: Sample) -> None:
        """Take in a sample."""
        self._policy.add(sample)

    def due(self, scan_stamp_ns: int) -> bool:
        """Whether a scan of this stamp is a tick."""
        return self._policy.due(scan_stamp_ns)

    def tick(self, scan_stamp_ns: int) -> Command:
        """The policy's command. Ticks that raise MissingSampleError are not counted."""
        started_ns = time.thread_time_ns()
        command = self._policy.tick(scan_stamp_ns)
        self._cpu_ns += time.thread_time_ns() - started_ns
        self._ticks += 1
        return command


def guard_params(profile: str) -> GuardParams:
    """The guard parameters of ``config/safety_guard_PROFILE.yaml``, those of the node left out."""
    path = share_path("config", f"safety_guard_{profile}.yaml")
    (section,) = load_yaml(path).values()
    values = section["ros__parameters"]
    known = set(GuardParams.__dataclass_fields__)
    return build(GuardParams, {key: value for key, value in values.items() if key in known}, path.name)


def score_of(success: bool, time_s: float, optimal_s: float) -> float:
    """success * OT / clip(AT, 2 OT, 8 OT): at most 0.5."""
    return optimal_s / float(np.clip(time_s, 2.0 * optimal_s, 8.0 * optimal_s)) if success else 0.0


def work(jobs: Iterator[Job]) -> Iterator[Run]:
    """Do runs in this process; policy and monitor are loaded once."""
    from dsac_robot.apps.closed_loop import LoopParams, drive
    from dsac_robot.bundle.deployed import DeployedMonitor, DeployedPolicy, load_bundle
    from sim.worlds import read_barn_world

    policy: TimedPolicy | None = None
    monitor = None
    for job in jobs:
        if policy is None:
            robot = load_robot(job.robot)
            guard = None if job.guard == "off" else guard_params(job.guard)
            if job.policy == LEARNED:
                bundle = load_bundle(job.bundle, allow_unsigned=job.allow_unsigned)
                policy = TimedPolicy(DeployedPolicy(bundle, robot))
                monitor = DeployedMonitor(bundle, robot) if job.monitor and bundle.card.monitor else None
            else:
                from sim.peers import make_peer

                policy = TimedPolicy(make_peer(job.policy, robot))
        world = read_barn_world(Path(job.folder), job.world)
        jitter = (JITTER_M, JITTER_RAD) if job.trial else (0.0, 0.0)
        loop = LoopParams(TIME_LIMIT_S, GOAL_TOLERANCE_M, *jitter)
        done = drive(robot, world, job.seed, policy, monitor, guard, loop)
        result = replace(run_of(job, world, done), tick_cpu_ms=policy.tick_cpu_ms)
        if job.pictures and result.outcome != "success":
            from dsac_robot.apps.barn_picture import write_picture

            write_picture(job, world, done, robot)
        yield result


def run_of(job: Job, world: World, done: Drive) -> Run:
    """The run's row."""
    from dsac_robot.core.reasons import Level

    optimal_s = world.path_length_m / SPEED_MPS
    return Run(
        job.world,
        job.trial,
        done.outcome,
        score_of(done.outcome == "success", done.time_s, optimal_s),
        done.time_s,
        done.time_s / optimal_s,
        done.caused,
        done.path_m,
        done.level_s[Level.LIMITED],
        done.level_s[Level.STOP] + done.level_s[Level.EMERGENCY],
        done.cautions,
        done.alarms,
        done.reasons,
        done.level_s[Level.FALLBACK],
        done.touch_speed_mps,
    )


def figures_of(runs: Sequence[Run]) -> list[Figure]:
    """The benchmark's figures (DESIGN section 12)."""
    outcomes = [run.outcome for run in runs]
    times = [run.time_over_ot for run in runs if run.outcome == "success"]
    cpu_ms = [run.tick_cpu_ms for run in runs if run.tick_cpu_ms is not None]
    count = len(runs)
    cpu = [Figure("tick_cpu_ms_median", float(np.median(cpu_ms)), "ms")] if cpu_ms else []
    return [
        Figure("score_mean", float(np.mean([run.score for run in runs])), "", TARGET_SCORE, BEST_PUBLISHED),
        Figure("success_rate", outcomes.count("success") / count, "", TARGET_SUCCESS, 0.88),
        Figure("collision_rate", outcomes.count("contact") / count, "", None, 0.048),
        Figure("timeout_rate", outcomes.count("timeout") / count, "", None, 0.072),
        Figure("time_over_ot_mean", float(np.mean(times)) if times else float("nan")),
        Figure("runs", count),
        Figure("caused_contacts", sum(run.caused for run in runs), "", 0.0, None, at_least=False),
        *cpu,
    ]
