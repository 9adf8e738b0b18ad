"""How long the base takes to do what was sent, measured from a recording."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dsac_robot.core.values import NS, Command, Floats, Odom

GRID_S = 0.01
SPREAD_MIN = 0.05  # of speed (m/s) or yaw rate (rad/s): a signal that hardly changes says nothing of delay
CORRELATION_MIN = 0.5


def response_delay_s(sent: Sequence[Command], odoms: Sequence[Odom], delay_s_max: float = 0.6) -> float | None:
    """The lag at which odometry's twist correlates best with the commands sent, both ordered by stamp.

    It holds transport, actuation and half or so of the motors' own lag: an upper bound of ``action_delay_s``. Speed and
    yaw rate count by how much they vary. None where the robot hardly moved, the recording is shorter than three times
    ``delay_s_max``, or nothing correlates.
    """
    if len(sent) < 2 or len(odoms) < 2:
        return None
    start = max(sent[0].stamp_ns, odoms[0].stamp_ns)
    end = min(sent[-1].stamp_ns, odoms[-1].stamp_ns)
    count = int((end - start) / NS / GRID_S)
    lags = round(delay_s_max / GRID_S)
    if count < 3 * lags:
        return None
    grid = np.arange(count) * GRID_S
    sent_s = np.array([(command.stamp_ns - start) / NS for command in sent])
    odom_s = np.array([(odom.stamp_ns - start) / NS for odom in odoms])
    held = np.searchsorted(sent_s, grid, side="right") - 1  # a command holds until the next one
    total, weight = np.zeros(lags + 1), 0.0
    for asked, done in (
        ([c.speed_mps for c in sent], [o.speed_mps for o in odoms]),
        ([c.yaw_rate_radps for c in sent], [o.yaw_rate_radps for o in odoms]),
    ):
        asked_now = np.asarray(asked, np.float64)[held]
        done_now = np.interp(grid, odom_s, np.asarray(done, np.float64))
        spread = float(min(asked_now.std(), done_now.std()))
        if spread >= SPREAD_MIN:
            total += spread * _correlations(asked_now, done_now, lags)
            weight += spread
    if weight == 0.0 or float(total.max()) < CORRELATION_MIN * weight:
        return None
    return float(np.argmax(total)) * GRID_S


def _correlations(asked: Floats, done: Floats, lags: int) -> Floats:
    """Correlation of ``asked`` with ``done`` later by 0 … ``lags`` grid steps. # (N,), (N,) -> (lags + 1,)"""
    used = len(asked) - lags
    first = asked[:used] - asked[:used].mean()
    found = []
    for lag in range(lags + 1):
        second = done[lag : lag + used] - done[lag : lag + used].mean()
        scale = float(np.linalg.norm(first) * np.linalg.norm(second))
        found.append(float(first @ second) / scale if scale > 0.0 else 0.0)
    return np.array(found)
