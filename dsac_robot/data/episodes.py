"""Samples of a bag to episodes of steps: the same observations, actions, rewards and costs as the simulator logs.

A tick is the stamp of a scan. Where the policy's own ticks are in the bag (the stamps of ``policy/cmd_vel``) those are
the ticks; else the first scan, then each next scan stamped at least a control period, less half a lidar period, after
the last tick. At a tick each signal is the newest sample stamped not after it. The action of step t is the newest
``cmd_vel`` *sent* at tick t + 1; what the policy asked at t is kept beside it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from dsac_robot.core.guard_types import Verdict
from dsac_robot.core.navigate import Step
from dsac_robot.core.observation import ObservationLayout
from dsac_robot.core.params import param
from dsac_robot.core.robot import Robot
from dsac_robot.core.values import NS, Command, Contact, Floats, Floats32, Goal, Odom, Plan, Scan, ns
from dsac_robot.data.bag_reader import Logged
from dsac_robot.data.decode import GuardState

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
K = TypeVar("K", Scan, Odom, Command, Goal, Plan, Contact, GuardState, Verdict)
NO_LEVEL = -1  # in place of a level where the bag has none


class EpisodeError(ValueError):
    """The samples do not fit the robot that was named. The message names the field and both values."""


@dataclass(frozen=True)
class EpisodeParams:
    """What breaks a recording into episodes."""

    ticks: str = param("auto", unit="", choices=("auto", "scan"), help="auto: the policy's ticks where the bag has any")
    tick_gap: float = param(1.5, unit="periods", low=1.0, high=10.0, help="ticks farther apart split an episode")
    scan_age_s_max: float = param(0.15, unit="s", low=0.0, high=5.0, help="a scan of the stack later than this splits")
    odom_age_s_max: float = param(0.2, unit="s", low=0.0, high=5.0, help="older odometry at a tick splits")
    command_age_s_max: float = param(0.3, unit="s", low=0.0, high=5.0, help="longer silence of cmd_vel splits")
    odom_jump_m: float = param(0.25, unit="m", low=0.0, high=10.0, help="a move beyond top speed by more splits")
    odom_jump_rad: float = param(0.5, unit="rad", low=0.0, high=3.0, help="a turn beyond top rate by more splits")
    plan_speed_mps: float = param(
        0.3, unit="m/s", low=0.01, high=10.0, help="speed of a plan whose poses are no schedule; as the policy had it"
    )
    plan_end_m: float = param(0.5, unit="m", low=0.0, high=10.0, help="a plan is followed when so much of it is left")
    steps_min: int = param(1, unit="", low=1, high=100000, help="shorter episodes are dropped")


@dataclass(frozen=True)
class Raw:
    """The signals at each tick, so that rewards and costs can be computed again. Sent commands: see ``sent``."""

    stamps_ns: Ints  # (T + 1,)
    odom: Floats  # (T + 1, 6): x, y, qz, qw, speed, yaw rate
    odom_stamps_ns: Ints  # (T + 1,)
    sent: Floats  # (T + 1, 2): newest cmd_vel at the tick
    sent_stamps_ns: Ints  # (T + 1,)
    goal_m: Floats  # (T + 1, 2): the episode's goal, in the odom frame
    goal_stamps_ns: Ints  # (T + 1,)
    ranges_m: Floats32  # (T + 1, B)
    contact: Bools  # (T + 1,): touched at or before the tick
    guard_level: Ints  # (T + 1,): NO_LEVEL where unknown
    guard_reason: Ints  # (T + 1,)
    ood_level: Ints  # (T + 1,)


@dataclass(frozen=True)
class Episode:
    """One episode of T steps."""

    observations: dict[str, Floats32]  # each (T + 1, …)
    actions: Floats  # (T, 2): sent, SI
    asked: Floats  # (T, 2): what the policy asked at the tick; NaN where it did not
    rewards: Floats  # (T,)
    costs: Floats  # (T,)
    terminated: bool  # success, contact, emergency; else truncated
    outcome: str  # success, contact, emergency, or why it was cut
    raw: Raw
    plan: Plan | None = None  # what it followed, in the odom frame; None in task navigate

    def __len__(self) -> int:
        return len(self.rewards)

    def step(self, index: int) -> Step:
        """The logged signals of one step, as the task's functions take them."""
        return step_of(self.raw, index)


@dataclass
class EpisodeReport:
    """What became of a recording."""

    ticks: int = 0
    policy_ticks: bool = False
    episodes: int = 0
    steps: int = 0
    endings: dict[str, int] = field(default_factory=dict)
    unusable: dict[str, int] = field(default_factory=dict)  # ticks that start no step, by cause

    def count(self, table: dict[str, int], why: str) -> None:
        """Count one more of ``why``."""
        table[why] = table.get(why, 0) + 1


def step_of(raw: Raw, index: int) -> Step:
    """Step ``index`` of raw signals: from tick ``index`` to the next."""

    goal = Goal(int(raw.goal_stamps_ns[index]), float(raw.goal_m[index, 0]), float(raw.goal_m[index, 1]))
    after = index + 1
    odoms, sent = (odom_at(raw, index), odom_at(raw, after)), (command_at(raw, index), command_at(raw, after))
    return Step(*odoms, goal, *sent, scan_at(raw, after), bool(raw.contact[after]))


def odom_at(raw: Raw, tick: int) -> Odom:
    """The odometry at a tick."""
    return Odom(int(raw.odom_stamps_ns[tick]), *(float(value) for value in raw.odom[tick]))


def command_at(raw: Raw, tick: int) -> Command:
    """The newest command sent at a tick."""
    return Command(int(raw.sent_stamps_ns[tick]), float(raw.sent[tick, 0]), float(raw.sent[tick, 1]))


def scan_at(raw: Raw, tick: int) -> Scan:
    """The scan of a tick."""
    return Scan(int(raw.stamps_ns[tick]), raw.ranges_m[tick])


@dataclass
class Recording:
    """The values of one bag between two jumps of the clock, each kind ordered by stamp."""

    scans: list[Scan] = field(default_factory=list)
    odoms: list[Odom] = field(default_factory=list)
    sent: list[Command] = field(default_factory=list)
    asked: list[Command] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    contacts: list[Contact] = field(default_factory=list)
    guard: list[GuardState] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    plans: list[Plan] = field(default_factory=list)


CLOCK_STEP_NS = NS // 2


def recordings(values: Iterable[Logged]) -> Iterator[Recording]:
    """The parts of a bag between backward jumps of its clock. Doubled stamps of a kind keep their first message.

    The clock is seen in scans and odometry; what is logged between the last of the old clock and the first of the new
    goes where its stamp fits.
    """
    current, newest = Recording(), 0
    between: list[Logged] = []
    for logged in values:
        value = logged.value
        between.append(logged)
        if not isinstance(value, Scan | Odom):
            continue
        if value.stamp_ns < newest - CLOCK_STEP_NS:
            limit = value.stamp_ns + CLOCK_STEP_NS
            for old in [other for other in between if other.value.stamp_ns > limit]:
                _file(current, old)
            between = [other for other in between if other.value.stamp_ns <= limit]
            yield _sorted(current)
            current, newest = Recording(), 0
        for other in between:
            _file(current, other)
        between = []
        newest = max(newest, value.stamp_ns)
    for other in between:
        _file(current, other)
    yield _sorted(current)


def _file(recording: Recording, logged: Logged) -> None:
    value = logged.value
    if isinstance(value, Scan):
        recording.scans.append(value)
    elif isinstance(value, Odom):
        recording.odoms.append(value)
    elif isinstance(value, Command):
        (recording.sent if logged.topic == "cmd_vel" else recording.asked).append(value)
    elif isinstance(value, Goal):
        recording.goals.append(value)
    elif isinstance(value, Contact):
        recording.contacts.append(value)
    elif isinstance(value, GuardState):
        recording.guard.append(value)
    elif isinstance(value, Verdict):
        recording.verdicts.append(value)
    elif isinstance(value, Plan):
        recording.plans.append(value)


def _sorted(recording: Recording) -> Recording:
    return Recording(
        _by_stamp(recording.scans),
        _by_stamp(recording.odoms),
        _by_stamp(recording.sent),
        _by_stamp(recording.asked),
        _by_stamp(recording.goals),
        _by_stamp(recording.contacts),
        _by_stamp(recording.guard),
        _by_stamp(recording.verdicts),
        _by_stamp(recording.plans),
    )


def _by_stamp(samples: list[K]) -> list[K]:
    """Ordered by stamp; of equal stamps the first that was logged."""
    first: dict[int, K] = {}
    for sample in samples:
        first.setdefault(sample.stamp_ns, sample)
    return sorted(first.values(), key=lambda sample: sample.stamp_ns)


def scan_ticks(stamps_ns: Sequence[int], layout: ObservationLayout, robot: Robot) -> list[int]:
    """Ticks by the rule: the first scan, then the next stamped >= last tick + period - half a lidar period."""
    least_ns = ns(layout.control_period_s - 0.5 / robot.lidar.rate_hz)
    ticks: list[int] = []
    for stamp in stamps_ns:
        if not ticks or stamp >= ticks[-1] + least_ns:
            ticks.append(stamp)
    return ticks


def policy_ticks(
    asked_ns: Sequence[int], scans_ns: Sequence[int], layout: ObservationLayout, robot: Robot, gap_ns: int
) -> list[int]:
    """The policy's ticks, and one more by the rule after each that no other follows in time: its step's outcome."""
    known = set(scans_ns)
    least_ns = ns(layout.control_period_s - 0.5 / robot.lidar.rate_hz)
    real = [stamp for stamp in asked_ns if stamp in known]
    ticks: list[int] = []
    for stamp, following in zip(real, [*real[1:], None], strict=True):
        ticks.append(stamp)
        if following is None or following - stamp > gap_ns:
            index = bisect_left(scans_ns, stamp + least_ns)
            if index < len(scans_ns) and (following is None or scans_ns[index] < following):
                ticks.append(scans_ns[index])
    return ticks
