"""The picture of an identification: measured and modelled rates, residuals, scans against odometer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dsac_robot.apps.report_style import EVENT, INK, MUTED, pyplot, save

if TYPE_CHECKING:
    from dsac_robot.data.identify import Identification
    from dsac_robot.data.identify_motion import LagFit
    from dsac_robot.data.scan_distance import ScanDistances

WINDOW_S = 12.0  # of drive that is drawn, where commands change most
MODEL, COMMANDED = "#2364aa", "#f5a700"


def draw(found: Identification, path: Path) -> Path:
    """Write the PNG; the path."""
    plt = pyplot()
    figure, axes = plt.subplots(3, 1, figsize=(8.0, 8.0), constrained_layout=True)
    for ax, fit, name in ((axes[0], found.speed, "speed"), (axes[1], found.yaw, "yaw rate")):
        if fit is None:
            _say(ax, f"{name}: not identified")
        else:
            _rates(ax, fit)
    if found.scans is None:
        _say(axes[2], "scans against odometer: not identified")
    else:
        _distances(axes[2], found.scans)
    path.parent.mkdir(parents=True, exist_ok=True)
    return save(figure, path, 130)


def _say(ax: Any, text: str) -> None:
    ax.text(0.5, 0.5, text, ha="center", va="center", color=MUTED, transform=ax.transAxes)
    ax.set_axis_off()


def _rates(ax: Any, fit: LagFit) -> None:
    channel = fit.channel
    times, steps = channel.times_s[1:], np.where(channel.usable, np.diff(channel.times_s), np.nan)  # gaps where not
    change = np.abs(np.diff(channel.sent))
    starts = np.arange(channel.sent_s[0], max(channel.sent_s[-1] - WINDOW_S, channel.sent_s[0] + 0.1), 1.0)
    sums = [change[(channel.sent_s[1:] >= s) & (channel.sent_s[1:] < s + WINDOW_S)].sum() for s in starts]
    start = float(starts[int(np.argmax(sums))])
    shown = (times >= start) & (times <= start + WINDOW_S)
    sent = (channel.sent_s >= start) & (channel.sent_s <= start + WINDOW_S)
    ax.step(channel.sent_s[sent], channel.sent[sent], where="post", color=COMMANDED, lw=1.0, label="commanded")
    ax.plot(times[shown], (channel.moved / steps)[shown], color=INK, lw=1.4, label="measured")
    ax.plot(times[shown], (fit.predicted / steps)[shown], color=MODEL, lw=1.0, ls="--", label="model")
    ax.set(xlabel="time since the first command (s)", ylabel=f"{channel.name} ({channel.unit})")
    delay, lag, gain = fit.delay_s, fit.lag_s, fit.gain
    ax.set_title(
        f"delay {delay.value * 1e3:.0f} ms, time constant {lag.value * 1e3:.0f} ms, gain {gain.value:.3f}, "
        f"{fit.explained:.1%} explained",
        loc="left",
        fontsize=9,
    )
    ax.legend(loc="upper right", ncols=3)


def _distances(ax: Any, scans: ScanDistances) -> None:
    ratio, factor = scans.scans_m / scans.odometer_m, scans.factor
    ax.axhspan(factor.low, factor.high, color=MODEL, alpha=0.2, lw=0)
    ax.axhline(factor.value, color=MODEL, lw=1.0)
    ax.axhline(1.0, color=MUTED, lw=0.6, ls=":")
    ax.plot(np.cumsum(scans.odometer_m), ratio, "o", ms=3, color=EVENT)
    ax.set(xlabel="odometer over the stretches used (m)", ylabel="scans / odometer")
    ax.set_title(
        f"wheel radius factor {factor.value:.4f} [{factor.low:.4f}, {factor.high:.4f}]", loc="left", fontsize=9
    )
