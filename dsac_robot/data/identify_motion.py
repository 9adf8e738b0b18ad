"""Fits how a base answers its commands: a dead time, a first-order lag and a gain, with 95 % intervals.

The model: the true rate v follows the command u by  tau dv/dt + v = gain u(t - delay),  and then a second such lag
that is known (the wheel servo of the robot file); left out, it would be taken for delay. What is fitted are the
distances (or turns) between consecutive samples, which the model gives in closed form for commands that hold until the
next one; so it does not matter whether a base reports rates at an instant or as means. Gauss-Newton from the best
point of a grid. Residuals of such a fit are correlated in time, and an interval that took them for independent would be
far too narrow: the intervals come from a block bootstrap (Künsch 1989) of the normal equations, whole stretches of
``BLOCK_S`` being drawn anew, with the model linear around the estimate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dsac_robot.core.robot import Robot
from dsac_robot.core.values import Floats
from dsac_robot.data.delay import SPREAD_MIN

Bools = npt.NDArray[np.bool_]

BLOCK_S = 2.0
BLOCKS_MIN = 8
DRAWS = 2000
CONFIDENCE = 0.95
SETTLE_S = 1.0  # after a silence the base's state is unknown for so long
DELAY_S_MAX, LAG_S_MIN, LAG_S_MAX = 0.6, 0.001, 1.5
SAME_LAG = 0.02  # two lags in a row count as so much apart at least: equal ones have no such difference
FIT_MIN = 0.8  # share of the rate's variance that the model must explain
ITERATIONS_MAX = 30
Lag = tuple[float, float]  # delay and time constant, s


class NotExcitedError(ValueError):
    """The recording cannot say. The message says what it lacks and how to drive instead."""


@dataclass(frozen=True)
class Estimate:
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half the interval."""
        return 0.5 * (self.high - self.low)


@dataclass(frozen=True)
class Channel:
    """One rate: what was commanded when, and how far it came between samples. Times in seconds, ascending."""

    name: str  # "speed" | "yaw rate"
    unit: str
    sent_s: Floats  # (M,)
    sent: Floats  # (M,)
    times_s: Floats  # (N,)
    moved: Floats  # (N - 1,) metres or radians since the sample before
    usable: Bools  # (N - 1,)
    drifts: bool = False  # a constant rate is added to what is measured: a gyro's bias
    servo_s: float = 0.0  # a second first-order lag behind the fitted one, known


@dataclass(frozen=True)
class LagFit:
    """What was fitted to a channel."""

    channel: Channel
    delay_s: Estimate
    lag_s: Estimate
    gain: Estimate  # measured rate over commanded rate, at rest with each other
    explained: float  # share of the rate's variance
    predicted: Floats  # (N - 1,)


def fit_lag(channel: Channel) -> LagFit:
    """Delay, time constant and gain of ``channel``. Raises NotExcitedError saying what the recording lacks."""
    use, steps = channel.usable, np.diff(channel.times_s)
    name, unit = channel.name, channel.unit
    blocks = _blocks(channel)
    if len(np.unique(blocks)) < BLOCKS_MIN:
        raise NotExcitedError(
            f"{name}: {steps[use].sum():.1f} s of drive can be used; it takes {BLOCKS_MIN * BLOCK_S:.0f} s under "
            "commands without gaps"
        )
    asked = channel.sent[np.searchsorted(channel.sent_s, channel.times_s[1:], side="right") - 1]
    spread = float(asked[use].std())
    if spread < SPREAD_MIN:
        raise NotExcitedError(
            f"{name}: commands hardly change (standard deviation {spread:.3f} {unit}, it takes {SPREAD_MIN}): "
            f"record a drive with steps of the {name} command"
        )
    measured, weight = channel.moved[use], 1.0 / steps[use]
    lag, linear = _search(channel)
    for _ in range(ITERATIONS_MAX):
        step = _step(channel, lag, linear)
        change = np.clip(step[:2], -0.02, 0.02)
        new = (_clip(lag[0] + change[0], 0.0, DELAY_S_MAX), _clip(lag[1] + change[1], LAG_S_MIN, LAG_S_MAX))
        linear = _solve(channel, new)[0]
        done = abs(new[0] - lag[0]) + abs(new[1] - lag[1]) < 1e-6
        lag = new
        if done:
            break
    predicted = _columns(channel, lag) @ linear
    residual = (measured - predicted[use]) * weight
    rate = measured * weight
    explained = 1.0 - float(np.sum(residual**2)) / float(np.sum((rate - rate.mean()) ** 2))
    if explained < FIT_MIN:
        raise NotExcitedError(
            f"{name}: what was measured does not follow the commands (they explain {max(explained, 0.0):.0%} of it, it "
            f"takes {FIT_MIN:.0%}): is cmd_vel what the base was sent, were wheels blocked, or was a gyro missing?"
        )
    draws = bootstrap(_jacobian(channel, lag, linear), residual, blocks)
    found = [estimate(value, deviation) for value, deviation in zip((*lag, float(linear[0])), draws.T[:3], strict=True)]
    delay, slow, gain = found
    return LagFit(channel, _not_below_0(delay), _not_below_0(slow), gain, explained, predicted)


def usable_intervals(sent_s: Floats, times_s: Floats, silence_s_max: float) -> Bools:
    """Which intervals between samples can be used: none without samples for long, none while or soon after commands
    were silent for longer than ``silence_s_max`` (the base stops on its own then). # (M,), (N,) -> (N - 1,)"""
    steps = np.diff(times_s)
    usable = (steps > 0.0) & (steps < 5.0 * float(np.median(steps)))
    gaps = np.flatnonzero(np.diff(sent_s) > silence_s_max)
    starts = [-math.inf, *(sent_s[gaps] + silence_s_max), sent_s[-1] + silence_s_max]
    ends = [sent_s[0] + SETTLE_S, *(sent_s[gaps + 1] + SETTLE_S), math.inf]
    for start, end in zip(starts, ends, strict=True):
        usable &= (times_s[1:] < start) | (times_s[:-1] > end)
    return np.asarray(usable, np.bool_)


def servo_lag_s(robot: Robot) -> float:
    """Time constant of the wheel servo that the robot file describes, with its share of the robot to move."""
    base, actuation = robot.base, robot.actuation
    wheels = 4 if base.drive == "skid_steer" else 2
    moved_kg = (base.mass_kg + base.payload_kg) / wheels + 0.5 * base.wheel_mass_kg  # the wheel also spins
    inertia = actuation.armature_kgm2 + moved_kg * base.wheel_radius_m**2
    return inertia * actuation.servo_droop_radps / actuation.wheel_torque_nm_max


def bootstrap(jacobian: Floats, residual: Floats, blocks: npt.NDArray[np.int64]) -> Floats:
    """Deviations of the least-squares estimate when whole blocks of its data are drawn anew.

    # (N, P), (N,), (N,) -> (DRAWS, P)
    """
    labels, index = np.unique(blocks, return_inverse=True)
    count, size = len(labels), jacobian.shape[1]
    normal, right = np.zeros((count, size, size)), np.zeros((count, size))
    np.add.at(normal, index, jacobian[:, :, None] * jacobian[:, None, :])
    np.add.at(right, index, jacobian * residual[:, None])
    drawn = np.random.default_rng(0).multinomial(count, np.full(count, 1.0 / count), DRAWS).astype(np.float64)
    matrices = np.einsum("db,bij->dij", drawn, normal)
    vectors = drawn @ right
    ridge = 1e-12 * np.trace(normal.sum(axis=0)) * np.eye(size)
    return np.asarray(np.linalg.solve(matrices + ridge, vectors[:, :, None])[:, :, 0], np.float64)


def estimate(value: float, deviations: Floats) -> Estimate:
    """``value`` with the interval that bootstrap ``deviations`` around it give. # (DRAWS,)"""
    tail = 50.0 * (1.0 - CONFIDENCE)
    low, high = np.percentile(deviations, (tail, 100.0 - tail))
    return Estimate(float(value), float(value + min(low, 0.0)), float(value + max(high, 0.0)))


def _blocks(channel: Channel) -> npt.NDArray[np.int64]:
    """The block of each usable interval. # (U,)"""
    return np.asarray(channel.times_s[1:][channel.usable] // BLOCK_S, np.int64)


def _integral(channel: Channel, lag: Lag) -> Floats:
    """What the model, with gain 1, moves between samples. # (N - 1,)

    The answer of two lags in a row is the difference of their answers, each in proportion to its own time.
    """
    (delay_s, lag_s), servo_s = lag, channel.servo_s
    if servo_s == 0.0:
        return _integral_of_one(channel, delay_s, lag_s)
    apart = SAME_LAG * servo_s
    if abs(lag_s - servo_s) < apart:
        lag_s = servo_s + math.copysign(apart, lag_s - servo_s)
    one, other = _integral_of_one(channel, delay_s, lag_s), _integral_of_one(channel, delay_s, servo_s)
    return np.asarray((lag_s * one - servo_s * other) / (lag_s - servo_s), np.float64)


def _integral_of_one(channel: Channel, delay_s: float, lag_s: float) -> Floats:
    """What one lag with gain 1 moves between samples. # (N - 1,)"""
    at, value = channel.sent_s + delay_s, channel.sent
    steps = np.diff(at)
    keep = np.exp(-steps / lag_s)
    rates = np.empty(len(at))  # the model's rate when each command takes effect
    rate = float(value[0])
    for k, (kept, held) in enumerate(zip(keep.tolist(), value[:-1].tolist(), strict=True)):
        rates[k] = rate
        rate = held + (rate - held) * kept
    rates[-1] = rate
    gone = value[:-1] * steps + (rates[:-1] - value[:-1]) * lag_s * (1.0 - keep)
    reached = np.concatenate([[0.0], np.cumsum(gone)])
    i = np.clip(np.searchsorted(at, channel.times_s, side="right") - 1, 0, None)
    since = channel.times_s - at[i]
    before = since < 0.0  # before the first command: unusable, kept finite
    decay = 1.0 - np.exp(-np.where(before, 0.0, since) / lag_s)
    positions = reached[i] + value[i] * since + (rates[i] - value[i]) * lag_s * decay
    return np.asarray(np.diff(positions), np.float64)


def _columns(channel: Channel, lag: Lag) -> Floats:
    """The parts of the prediction that enter linearly: command, and drift where there is one. # (N - 1, 1 or 2)"""
    columns = [_integral(channel, lag)]
    if channel.drifts:
        columns.append(np.diff(channel.times_s))
    return np.stack(columns, axis=1)


def _solve(channel: Channel, lag: Lag) -> tuple[Floats, float]:
    """Best gain (and drift) for a lag, and the squared error of the rates that is left."""
    use, weight = channel.usable, 1.0 / np.diff(channel.times_s)[channel.usable]
    columns, measured = _columns(channel, lag)[use] * weight[:, None], channel.moved[use] * weight
    linear = np.asarray(np.linalg.lstsq(columns, measured, rcond=None)[0], np.float64)
    return linear, float(np.sum((measured - columns @ linear) ** 2))


def _search(channel: Channel) -> tuple[Lag, Floats]:
    """The best point of a coarse grid."""
    grid = [(float(d), float(t)) for d in np.arange(0.0, DELAY_S_MAX, 0.03) for t in (0.01, 0.04, 0.1, 0.25, 0.6)]
    best = min(grid, key=lambda lag: _solve(channel, lag)[1])
    return best, _solve(channel, best)[0]


def _jacobian(channel: Channel, lag: Lag, linear: Floats) -> Floats:
    """Change of the predicted rates with delay, time constant, gain (and drift). # (U, 3 or 4)"""
    use, weight = channel.usable, 1.0 / np.diff(channel.times_s)[channel.usable]
    columns = []
    for i, size in enumerate((0.002, 0.05 * lag[1] + 5e-4)):
        lower, upper = list(lag), list(lag)
        lower[i], upper[i] = max(lag[i] - size, 0.5 * LAG_S_MIN if i else -size), lag[i] + size
        change = _integral(channel, (upper[0], upper[1])) - _integral(channel, (lower[0], lower[1]))
        columns.append(change * linear[0] / (upper[i] - lower[i]))
    return np.asarray(np.column_stack([*columns, _columns(channel, lag)])[use] * weight[:, None], np.float64)


def _step(channel: Channel, lag: Lag, linear: Floats) -> Floats:
    """The Gauss-Newton step."""
    use, weight = channel.usable, 1.0 / np.diff(channel.times_s)[channel.usable]
    residual = (channel.moved - _columns(channel, lag) @ linear)[use] * weight
    return np.asarray(np.linalg.lstsq(_jacobian(channel, lag, linear), residual, rcond=None)[0], np.float64)


def _clip(value: float, low: float, high: float) -> float:
    return min(max(float(value), low), high)


def _not_below_0(found: Estimate) -> Estimate:
    return Estimate(found.value, max(found.low, 0.0), max(found.high, 0.0))
