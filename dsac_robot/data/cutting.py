"""Walks the ticks of one recording and cuts it into episodes. The rules are in ``episodes``' docstring and params."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from dsac_robot.core.history import History, MissingSampleError
from dsac_robot.core.kinematics import wrap_angle
from dsac_robot.core.observation import Observation, ObservationBuilder, ObservationLayout
from dsac_robot.core.reasons import Level
from dsac_robot.core.robot import Robot
from dsac_robot.core.values import NS, Command, Contact, Goal, Odom, Plan, Sample, Scan, ns
from dsac_robot.data.episodes import (
    NO_LEVEL,
    Episode,
    EpisodeError,
    EpisodeParams,
    EpisodeReport,
    Raw,
    Recording,
    policy_ticks,
    scan_ticks,
)
from dsac_robot.data.judging import Target, TaskParams, judge_of


@dataclass
class _Tick:
    """What is known at one tick."""

    stamp_ns: int
    observation: Observation
    odom: Odom
    sent: Command
    target: Target
    scan: Scan
    contact: bool
    asked: Command | None
    guard: tuple[int, int]  # level, reason
    ood_level: int


@dataclass
class _Events:
    """What happened since the last tick."""

    touched: bool
    touching: bool  # still, at the tick
    emergency: bool
    jumped: bool


@dataclass
class _Feed:
    """A cursor over samples ordered by stamp."""

    samples: Sequence[Sample]
    at: int = 0

    def until(self, stamp_ns: int) -> Iterator[Sample]:
        while self.at < len(self.samples) and self.samples[self.at].stamp_ns <= stamp_ns:
            yield self.samples[self.at]
            self.at += 1


@dataclass
class Cutter:
    """Cuts recordings of one robot into episodes of one task."""

    robot: Robot
    layout: ObservationLayout
    task: TaskParams
    params: EpisodeParams
    report: EpisodeReport = field(default_factory=EpisodeReport)

    def __post_init__(self) -> None:
        self._judge = judge_of(self.task, self.robot, self.params.plan_end_m)
        self._builder = ObservationBuilder(self.robot, self.layout)
        self._period_ns = ns(self.layout.control_period_s)
        self._gap_ns = ns(self.params.tick_gap * self.layout.control_period_s)

    def ticks(self, recording: Recording) -> list[int]:
        """The ticks of one recording."""
        scans = [scan.stamp_ns for scan in recording.scans]
        if self.params.ticks == "auto" and recording.asked:
            self.report.policy_ticks = True
            asked = [command.stamp_ns for command in recording.asked]
            return policy_ticks(asked, scans, self.layout, self.robot, self._gap_ns)
        return scan_ticks(scans, self.layout, self.robot)

    def episodes(self, recording: Recording, progress: Callable[[int, int], None] | None = None) -> Iterator[Episode]:
        """The episodes of one recording. ``progress`` is called with (ticks done, all ticks).

        Raises EpisodeError where the scans do not have the robot's number of beams.
        """
        self._check_beams(recording.scans)
        walk = _Walk(recording, self.robot, self.layout, self.params, self._judge.follows_plan)
        ticks = self.ticks(recording)
        self.report.ticks += len(ticks)
        open_ticks: list[_Tick] = []
        for done, stamp in enumerate(ticks):
            if progress is not None:
                progress(done, len(ticks))
            events = walk.advance(stamp)
            why_not = walk.unusable(stamp)
            ending = None
            if open_ticks:
                ending = self._cut(open_ticks[-1].stamp_ns, stamp, events, why_not)
                if ending is None:
                    open_ticks.append(self._tick(walk, stamp, open_ticks[0].target, events.touched))
                    ending = self._end(open_ticks, walk, events)
                if ending is not None:
                    yield from self._finished(open_ticks, ending)
                    open_ticks = []
            if not open_ticks and ending not in self._judge.terminal:
                open_ticks = self._start(walk, stamp, events, why_not)
        yield from self._finished(open_ticks, "end of bag")

    def _check_beams(self, scans: Sequence[Scan]) -> None:
        beams = self.robot.lidar.beams
        for scan in scans:
            if len(scan.ranges_m) != beams:
                raise EpisodeError(
                    f"the scan stamped {scan.stamp_ns} ns has {len(scan.ranges_m)} beams, but lidar.beams of robot "
                    f"{self.robot.name!r} is {beams}: name the robot that recorded the bag"
                )

    def _cut(self, last_ns: int, stamp: int, events: _Events, why_not: str | None) -> str | None:
        """Why the episode cannot reach this tick, or None."""
        if stamp - last_ns > self._gap_ns:
            return "gap between ticks"
        return "odometry jump" if events.jumped else why_not

    def _end(self, ticks: list[_Tick], walk: _Walk, events: _Events) -> str | None:
        """How the episode ends at its newest tick, or None."""
        ending = self._judge.ending(_raw(ticks[-2:]), ticks[-1].target.plan)
        if ending is not None:
            return ending
        if events.emergency:
            return "emergency"
        target = walk.target(ticks[-1].stamp_ns)
        if target is None or target.same(ticks[-1].target, self._judge.follows_plan):
            return None
        return "plan changed" if self._judge.follows_plan else "goal changed"

    def _start(self, walk: _Walk, stamp: int, events: _Events, why_not: str | None) -> list[_Tick]:
        target = walk.target(stamp)
        if why_not is None and target is None:
            why_not = "no plan" if self._judge.follows_plan else "no goal"
        elif why_not is None and events.touching:
            why_not = "in contact"
        elif why_not is None and walk.in_emergency:
            why_not = "emergency stop"
        if why_not is None and target is not None:
            why_not = self._judge.at_end(walk.history.newest(Odom, stamp), target)
        if why_not is not None or target is None:
            self.report.count(self.report.unusable, why_not or "")
            return []
        walk.history.add(target.goal)
        if target.plan is not None:
            walk.history.add(target.plan)
        return [self._tick(walk, stamp, target, touched=False)]

    def _tick(self, walk: _Walk, stamp: int, target: Target, touched: bool) -> _Tick:
        history = walk.history
        return _Tick(
            stamp,
            self._builder.build(history, stamp),
            history.newest(Odom, stamp),
            history.newest(Command, stamp),
            target,
            history.newest(Scan, stamp),
            touched,
            walk.asked.get(stamp),
            walk.guard_at(stamp),
            walk.ood_at(stamp),
        )

    def _finished(self, ticks: list[_Tick], outcome: str) -> Iterator[Episode]:
        if not ticks:
            return
        if len(ticks) - 1 < self.params.steps_min:
            self.report.count(self.report.unusable, f"episode shorter than {self.params.steps_min} steps ({outcome})")
            return
        self.report.episodes += 1
        self.report.steps += len(ticks) - 1
        self.report.count(self.report.endings, outcome)
        yield self._episode(ticks, outcome)

    def _episode(self, ticks: list[_Tick], outcome: str) -> Episode:
        raw, plan = _raw(ticks), ticks[0].target.plan
        asked = [(t.asked.speed_mps, t.asked.yaw_rate_radps) if t.asked else (math.nan, math.nan) for t in ticks[:-1]]
        rewards, costs = self._judge.label(raw, plan)
        return Episode(
            observations={name: np.stack([t.observation[name] for t in ticks]) for name in ticks[0].observation},
            actions=raw.sent[1:],
            asked=np.array(asked, np.float64).reshape(-1, 2),
            rewards=rewards,
            costs=costs,
            terminated=outcome in self._judge.terminal,
            outcome=outcome,
            raw=raw,
            plan=plan,
        )


class _Walk:
    """The samples of a recording up to the present tick."""

    def __init__(
        self, recording: Recording, robot: Robot, layout: ObservationLayout, params: EpisodeParams, follows_plan: bool
    ) -> None:
        self._layout, self._params = layout, params
        period_s = layout.control_period_s
        self.history = History(layout.frames * period_s + 2.0)
        merged: list[Sample] = [*recording.odoms, *recording.scans, *recording.sent]
        self._feed = _Feed(sorted(merged, key=lambda sample: sample.stamp_ns))
        self._contacts = _Feed(recording.contacts)
        self._targets = [Target(goal, None) for goal in recording.goals]
        if follows_plan:
            self._targets = [Target(_end_of(plan), plan) for plan in recording.plans]
        self._target_stamps = [target.goal.stamp_ns for target in self._targets]
        self._guard, self._guard_stamps = recording.guard, [state.stamp_ns for state in recording.guard]
        self._verdicts, self._verdict_stamps = recording.verdicts, [v.stamp_ns for v in recording.verdicts]
        self._jumps = _jumps(recording.odoms, robot, params)
        self.asked = {command.stamp_ns: command for command in recording.asked}
        self._touching = False
        self._last_ns = -1
        self.in_emergency = False

    def advance(self, stamp: int) -> _Events:
        """Take in everything stamped at or before ``stamp``."""
        for sample in self._feed.until(stamp):
            self.history.add(sample)
        touched = self._touching
        for contact in self._contacts.until(stamp):
            self._touching = isinstance(contact, Contact) and contact.touching
            touched = touched or self._touching
        first, last = (bisect_right(self._guard_stamps, at) for at in (self._last_ns, stamp))
        emergency = any(state.level == Level.EMERGENCY for state in self._guard[first:last])
        if last:
            self.in_emergency = self._guard[last - 1].level == Level.EMERGENCY
        jumped = bisect_right(self._jumps, stamp) > bisect_right(self._jumps, self._last_ns)
        self._last_ns = stamp
        return _Events(touched, self._touching, emergency, jumped)

    def unusable(self, stamp: int) -> str | None:
        """Which signal is missing or too old at ``stamp``, or None."""
        period_ns, params = ns(self._layout.control_period_s), self._params
        try:
            if stamp - self.history.newest(Odom, stamp).stamp_ns > ns(params.odom_age_s_max):
                return "odometry silent"
            if stamp - self.history.newest(Command, stamp).stamp_ns > ns(params.command_age_s_max):
                return "cmd_vel silent"
            for k in range(self._layout.frames):
                wanted = stamp - k * period_ns
                if wanted - self.history.newest(Scan, wanted).stamp_ns > ns(params.scan_age_s_max):
                    return "scan silent"
        except MissingSampleError as error:
            return str(error).split(" stamped")[0]
        return None

    def target(self, stamp: int) -> Target | None:
        """What was asked last at ``stamp``."""
        index = bisect_right(self._target_stamps, stamp)
        return self._targets[index - 1] if index else None

    def guard_at(self, stamp: int) -> tuple[int, int]:
        """The guard's newest level and reason at ``stamp``."""
        index = bisect_right(self._guard_stamps, stamp)
        if not index:
            return NO_LEVEL, NO_LEVEL
        return int(self._guard[index - 1].level), int(self._guard[index - 1].reason)

    def ood_at(self, stamp: int) -> int:
        """The monitor's newest level at ``stamp``."""
        index = bisect_right(self._verdict_stamps, stamp)
        return int(self._verdicts[index - 1].level) if index else NO_LEVEL


def _jumps(odoms: Sequence[Odom], robot: Robot, params: EpisodeParams) -> list[int]:
    """Stamps of the odometry that lies farther from the one before than the robot can have moved."""
    found = []
    for before, after in pairwise(odoms):
        dt_s = (after.stamp_ns - before.stamp_ns) / NS
        moved_m = math.hypot(after.x_m - before.x_m, after.y_m - before.y_m)
        turned_rad = abs(wrap_angle(after.yaw_rad - before.yaw_rad))
        far = moved_m > robot.limits.speed_mps_max * dt_s + params.odom_jump_m
        if far or turned_rad > robot.limits.yaw_rate_radps_max * dt_s + params.odom_jump_rad:
            found.append(after.stamp_ns)
    return found


def _end_of(plan: Plan) -> Goal:
    return Goal(plan.stamp_ns, *plan.points_m[-1].tolist())


def _raw(ticks: Sequence[_Tick]) -> Raw:
    odom = [(t.odom.x_m, t.odom.y_m, t.odom.qz, t.odom.qw, t.odom.speed_mps, t.odom.yaw_rate_radps) for t in ticks]
    return Raw(
        stamps_ns=np.array([t.stamp_ns for t in ticks], np.int64),
        odom=np.array(odom, np.float64),
        odom_stamps_ns=np.array([t.odom.stamp_ns for t in ticks], np.int64),
        sent=np.array([(t.sent.speed_mps, t.sent.yaw_rate_radps) for t in ticks], np.float64),
        sent_stamps_ns=np.array([t.sent.stamp_ns for t in ticks], np.int64),
        goal_m=np.array([(t.target.goal.x_m, t.target.goal.y_m) for t in ticks], np.float64),
        goal_stamps_ns=np.array([t.target.goal.stamp_ns for t in ticks], np.int64),
        ranges_m=np.stack([t.scan.ranges_m for t in ticks]),
        contact=np.array([t.contact for t in ticks], np.bool_),
        guard_level=np.array([t.guard[0] for t in ticks], np.int64),
        guard_reason=np.array([t.guard[1] for t in ticks], np.int64),
        ood_level=np.array([t.ood_level for t in ticks], np.int64),
    )
