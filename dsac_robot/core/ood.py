"""The OOD monitor's decision: scores against calibrated thresholds, with hysteresis. Pure; the scores come as numbers.

Thresholds are conformal on per-episode maxima, because the steps of an episode are autocorrelated: a per-step p-value
false-alarms in almost every episode. ``episode_maximum`` takes the maximum of what ``judge`` compares, so that the
guarantee covers the alarm that is really raised.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dsac_robot.core.reasons import OodLevel, Reason
from dsac_robot.core.values import Floats


@dataclass(frozen=True)
class ScoreSpec:
    """One score of the monitor. Higher is stranger; a level is reached strictly above its threshold."""

    name: str
    caution_threshold: float
    alarm_threshold: float


@dataclass(frozen=True)
class MonitorSpec:
    """What ``card.monitor`` holds: the scores in the order of the model's output, and the hysteresis of both levels.

    A level is raised by a score that stays above the level's threshold for ``raise_after`` ticks in a row. It is
    cleared after ``clear_after`` ticks in a row in which every score is at or below its clearing threshold, which is
    ``(1 - clear_fraction) * |threshold|`` under the threshold. ``alpha_*`` and ``episodes`` record the calibration.

    Raises ValueError naming the field that makes no sense.
    """

    scores: tuple[ScoreSpec, ...]
    raise_after: int = 2
    clear_after: int = 10
    clear_fraction: float = 0.9
    alpha_caution: float | None = None  # calibrated probability of a false caution in an episode
    alpha_alarm: float | None = None  # calibrated probability of a false alarm in an episode
    episodes: int = 0  # calibration episodes

    def __post_init__(self) -> None:
        names = [score.name for score in self.scores]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"scores must be at least one, each with its own name; got {names}")
        for score in self.scores:
            if not (math.isfinite(score.caution_threshold) and math.isfinite(score.alarm_threshold)):
                raise ValueError(f"score {score.name!r}: thresholds must be finite")
            if score.caution_threshold > score.alarm_threshold:
                raise ValueError(
                    f"score {score.name!r}: caution_threshold = {score.caution_threshold} must not exceed "
                    f"alarm_threshold = {score.alarm_threshold}"
                )
        if self.raise_after < 1 or self.clear_after < 1:
            raise ValueError(
                f"raise_after = {self.raise_after} and clear_after = {self.clear_after} must be at least 1"
            )
        if not 0.0 < self.clear_fraction <= 1.0:
            raise ValueError(f"clear_fraction = {self.clear_fraction} is outside (0, 1]")

    def thresholds(self, level: OodLevel) -> Floats:
        """The thresholds of CAUTION or ALARM, in the order of the scores. # (K,)"""
        alarm = level is OodLevel.ALARM
        return np.array([s.alarm_threshold if alarm else s.caution_threshold for s in self.scores], np.float64)


@dataclass(frozen=True)
class Latch:
    """The hysteresis of one level: is it raised, for how many ticks was each score above, and were all below."""

    raised: bool = False
    above: tuple[int, ...] = ()  # per score
    below: int = 0


@dataclass(frozen=True)
class OodState:
    """All that ``judge`` remembers from tick to tick."""

    caution: Latch = Latch()
    alarm: Latch = Latch()


@dataclass(frozen=True)
class OodJudgement:
    """The level, why, and the numbers of the worst score: the one farthest above (or least below) its alarm."""

    level: OodLevel
    reason: Reason
    worst: int  # index into the scores
    score: float
    caution_threshold: float
    alarm_threshold: float


def judge(state: OodState, scores: Floats, spec: MonitorSpec) -> tuple[OodState, OodJudgement]:
    """The level after one more tick with ``scores`` (K,).

    A score that is not finite raises the alarm at once, with MONITOR_FAULT as reason; it clears like any alarm.
    Raises ValueError if the number of scores is not that of ``spec``.
    """
    scores = np.asarray(scores, np.float64)
    if scores.shape != (len(spec.scores),):
        raise ValueError(f"scores have shape {scores.shape}, the monitor's card lists {len(spec.scores)}")
    finite = np.isfinite(scores)
    fault = not finite.all()
    caution = _advance(state.caution, scores, spec.thresholds(OodLevel.CAUTION), spec, fault)
    alarm = _advance(state.alarm, scores, spec.thresholds(OodLevel.ALARM), spec, fault)
    if alarm.raised:
        level, reason = OodLevel.ALARM, Reason.OOD_ALARM
    elif caution.raised:
        level, reason = OodLevel.CAUTION, Reason.OOD_CAUTION
    else:
        level, reason = OodLevel.OK, Reason.NONE
    if fault:
        reason = Reason.MONITOR_FAULT
        worst = int(np.argmin(finite))
    else:
        thresholds = spec.thresholds(OodLevel.ALARM)
        worst = int(np.argmax((scores - thresholds) / np.maximum(np.abs(thresholds), 1e-12)))
    named = spec.scores[worst]
    judgement = OodJudgement(level, reason, worst, float(scores[worst]), named.caution_threshold, named.alarm_threshold)
    return OodState(caution, alarm), judgement


def _advance(latch: Latch, scores: Floats, thresholds: Floats, spec: MonitorSpec, fault: bool) -> Latch:
    """One tick of one level."""
    before = latch.above or (0,) * len(spec.scores)
    over = np.logical_or(scores > thresholds, ~np.isfinite(scores))
    # Counting beyond raise_after says nothing more; the cap keeps the state bounded.
    above = tuple(min(n + 1, spec.raise_after) if is_over else 0 for n, is_over in zip(before, over, strict=True))
    if fault or max(above) >= spec.raise_after:
        return Latch(True, above, 0)
    clearing = thresholds - (1.0 - spec.clear_fraction) * np.abs(thresholds)
    below = latch.below + 1 if latch.raised and bool((scores <= clearing).all()) else 0
    raised = latch.raised and below < spec.clear_after
    return Latch(raised, above, below if raised else 0)


def check_numbers(level: OodLevel, numbers: Sequence[float]) -> None:
    """Raise ValueError for a verdict as it was read from a message whose numbers do not bear it out.

    A score or threshold that is not finite says nothing, and NaN lies above no threshold: only an ALARM may come with
    one, as ``judge`` gives it.
    """
    if level is not OodLevel.ALARM and not all(math.isfinite(number) for number in numbers):
        raise ValueError(f"{level.name} with score and thresholds {tuple(numbers)}: they must be finite")


def episode_maximum(scores: npt.ArrayLike, raise_after: int = 1) -> Floats:
    """The highest threshold that an episode's scores would still exceed for ``raise_after`` ticks in a row.

    The maximum over time of the minimum over each window of ``raise_after`` ticks: ``judge`` raises a level in the
    episode exactly if this exceeds the level's threshold. # (T,) -> (), (T, K) -> (K,)

    -inf for an episode shorter than the window, which can raise nothing. Raises ValueError for NaN, for an empty
    window and for more than two dimensions.
    """
    values = np.asarray(scores, np.float64)
    if raise_after < 1 or values.ndim not in (1, 2):
        raise ValueError(
            f"raise_after = {raise_after} must be at least 1, and scores (T,) or (T, K), not {values.shape}"
        )
    if np.isnan(values).any():
        raise ValueError("the scores of a calibration episode contain NaN: it is a fault, not an example")
    if len(values) < raise_after:
        return np.full(values.shape[1:], -np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(values, raise_after, axis=0)  # (T - raise_after + 1, [K,] W)
    return np.asarray(windows.min(axis=-1).max(axis=0), np.float64)


def conformal_threshold(maxima: Sequence[float] | Floats, alpha: float) -> float:
    """The threshold that the maximum of a new, exchangeable episode exceeds with probability at most ``alpha``.

    ``maxima`` (n,) are the episode maxima of the calibration episodes; the threshold is the
    ceil((n + 1)(1 - alpha))-th smallest (split conformal prediction; Vovk, Gammerman, Shafer 2005).

    Raises ValueError, with the n that is needed, if that rank exceeds n; also for ``alpha`` outside (0, 1), for NaN,
    and where the threshold would be infinite.
    """
    ordered = np.sort(np.asarray(maxima, np.float64).ravel())
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"alpha = {alpha} is outside (0, 1)")
    if np.isnan(ordered).any():
        raise ValueError("the episode maxima contain NaN")
    # The rounding keeps (n + 1)(1 - alpha) from being pushed over an integer by one unit in the last place.
    rank = math.ceil(round((len(ordered) + 1) * (1.0 - alpha), 9))
    if rank > len(ordered):
        needed = math.ceil(round(1.0 / alpha, 9)) - 1
        raise ValueError(f"alpha = {alpha} needs at least {needed} calibration episodes, got {len(ordered)}")
    threshold = float(ordered[rank - 1])
    if not math.isfinite(threshold):
        raise ValueError(f"the threshold would be {threshold}: too many calibration episodes are too short or infinite")
    return threshold
