"""The pictures of a report over time, of latency, and the overview. Each function writes one PNG."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from dsac_robot.apps.report_data import Recording, Run
from dsac_robot.apps.report_facts import Facts, Latency
from dsac_robot.apps.report_style import COMMAND, EVENT, INK, MUTED, WIDTH_IN, command_of, pyplot, save
from dsac_robot.apps.report_top_view import draw_top_view, extent, legend_handles
from dsac_robot.core.reasons import OodLevel, Reason
from dsac_robot.data.decode import GuardState

MONITOR = {OodLevel.OK: "#9fd3b5", OodLevel.CAUTION: "#e8702a", OodLevel.ALARM: "#d7263d"}
CLEARANCE_SHOWN_M = 1.5
LABEL_S_MIN = 0.045  # of the axis' width: shorter spans get no label


def write_time_lines(run: Run, facts: Facts, path: Path) -> Path:
    """Speed, clearance, the guard's and the monitor's words over the time of the run."""
    plt = pyplot()
    ratios = {"height_ratios": [2.1, 1.3, 0.55, 0.9], "hspace": 0.16}
    figure, rows = plt.subplots(4, 1, figsize=(WIDTH_IN, 4.9), sharex=True, gridspec_kw=ratios)
    figure.subplots_adjust(left=0.075, right=0.985, top=0.95, bottom=0.09)
    end_s = run.seconds(run.end_ns)
    _draw_speed(rows[0], run)
    _draw_clearance(rows[1], facts)
    _draw_guard(rows[2], run, end_s)
    _draw_monitor(rows[3], run, end_s)
    for axes in rows:
        axes.grid(True, axis="x" if axes is rows[2] else "both", linewidth=0.5)
        axes.set_axisbelow(True)
        axes.tick_params(length=2)
        for event in run.events:
            axes.axvline(run.seconds(event.stamp_ns), color=EVENT, linewidth=1.1, linestyle=(0, (4, 2)), zorder=6)
    for event in run.events:
        at = (run.seconds(event.stamp_ns), 1.02)
        side = "left" if at[0] < 0.15 * end_s else "center"
        rows[0].annotate(event.text, at, xycoords=("data", "axes fraction"), color=EVENT, fontsize=8.5, ha=side)
    rows[3].set(xlim=(0.0, end_s), xlabel="s since the run began (simulated or ROS time)")
    figure.align_ylabels(rows)
    return save(figure, path)


def _draw_speed(axes: Any, run: Run) -> None:
    asked, sent, poses = run.asked, run.sent, run.poses
    if asked:
        times = [run.seconds(r.value.stamp_ns) for r in asked]
        speeds = [r.value.speed_mps for r in asked]
        axes.step(times, speeds, where="post", color="#b7791f", linewidth=1.0, label="policy asks")
    if run.teleop:
        times = [run.seconds(c.stamp_ns) for c in run.teleop]
        speeds = [c.speed_mps for c in run.teleop]
        axes.step(times, speeds, where="post", color=COMMAND["teleop"][1], linewidth=1.3, label="operator asks")
    if sent:
        times = [run.seconds(c.stamp_ns) for c in sent]
        axes.step(times, [c.speed_mps for c in sent], where="post", color="#2364aa", linewidth=1.5, label="guard sends")
    if poses:
        label = "true" if run.truth else "odometry"
        times = [run.seconds(o.stamp_ns) for o in poses]
        axes.plot(times, [o.speed_mps for o in poses], color=INK, linewidth=1.0, alpha=0.8, label=label)
    axes.set_ylabel("speed, m/s")
    axes.axhline(0.0, color=MUTED, linewidth=0.6)
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 0.98), ncol=4, fontsize=8, borderaxespad=0.0)


def _draw_clearance(axes: Any, facts: Facts) -> None:
    axes.set(ylabel="clearance, m", ylim=(0.0, CLEARANCE_SHOWN_M))
    if not len(facts.clearance):
        return
    times, metres = facts.clearance.T
    axes.plot(times, metres, color="#0f766e", linewidth=1.3)
    axes.fill_between(times, metres, color="#0f766e", alpha=0.12, linewidth=0)
    least = int(np.argmin(metres))
    axes.plot(times[least], metres[least], "o", color="#0f766e", markersize=4)
    text = f"least {metres[least]:.2f} m"
    axes.annotate(text, (times[least], metres[least]), (6, 7), textcoords="offset points", fontsize=8, color="#0f766e")


def _draw_guard(axes: Any, run: Run, end_s: float) -> None:
    axes.set(ylim=(0.0, 1.0), yticks=[])
    axes.set_ylabel("guard", rotation=0, ha="right", va="center")
    spans: list[tuple[float, float, GuardState]] = []
    for state, following in zip(run.guard, [*run.guard[1:], None], strict=True):
        begin, end = run.seconds(state.stamp_ns), end_s if following is None else run.seconds(following.stamp_ns)
        same = spans and (spans[-1][2].level, spans[-1][2].reason) == (state.level, state.reason)
        if same:
            spans[-1] = (spans[-1][0], end, spans[-1][2])
        else:
            spans.append((begin, end, state))
    for begin, end, state in spans:
        axes.axvspan(begin, end, color=COMMAND[command_of(state)][1], linewidth=0)
        if end - begin > LABEL_S_MIN * end_s * len(state.reason.name) / 8.0:
            text = "DRIVE" if state.reason == Reason.NONE else state.reason.name
            axes.text(0.5 * (begin + end), 0.5, text, ha="center", va="center", fontsize=6.5, color="white")


def _draw_monitor(axes: Any, run: Run, end_s: float) -> None:
    axes.set_ylabel("monitor\nscore")
    if not run.verdicts:
        axes.set(ylim=(0.0, 1.0), yticks=[])
        axes.text(0.5, 0.5, "no verdicts in this recording", transform=axes.transAxes, ha="center", color=MUTED)
        return
    times = [run.seconds(v.stamp_ns) for v in run.verdicts]
    for begin, end, verdict in zip(times, [*times[1:], min(end_s, times[-1] + 0.1)], run.verdicts, strict=True):
        if end - begin < 0.5:
            axes.axvspan(begin, end, color=MONITOR[verdict.level], alpha=0.45, linewidth=0)
    scores = np.array([v.score for v in run.verdicts])
    alarm, caution = run.verdicts[-1].alarm_threshold, run.verdicts[-1].caution_threshold
    axes.plot(times, scores, color=INK, linewidth=1.1)
    for level, name, side in ((caution, "caution", -1), (alarm, "alarm", 1)):  # the lines may lie close together
        axes.axhline(level, color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
        place = {"textcoords": "offset points", "va": "top" if side < 0 else "bottom"}
        axes.annotate(name, (0.0, level), (3, 1.5 * side), fontsize=7, color=MUTED, **place)
    finite = scores[np.isfinite(scores)]
    top = max(1.3 * alarm, min(float(finite.max()) if len(finite) else 0.0, 3.0 * alarm))
    axes.set_ylim(min(0.0, float(finite.min()) if len(finite) else 0.0), top if top > 0.0 else 1.0)


# -- latency and overview ----------------------------------------------------------------------------------------------


def write_latency(latency: Latency, path: Path) -> Path:
    """Histograms of the time from a scan to the command made of it."""
    plt = pyplot()
    figure, pair = plt.subplots(1, 2, figsize=(WIDTH_IN, 2.5))
    figure.subplots_adjust(left=0.06, right=0.985, top=0.86, bottom=0.19, wspace=0.16)
    titles = ("scan received → policy/cmd_vel received", "scan stamp → first cmd_vel that obeys it")
    for axes, seconds, title, colour in zip(
        pair, (latency.received_s, latency.sent_s), titles, ("#73b3e8", "#2364aa"), strict=True
    ):
        axes.set_title(title, fontsize=9.5, loc="left")
        axes.set(xlabel="ms", ylabel="commands")
        axes.grid(True, axis="y", linewidth=0.5)
        axes.set_axisbelow(True)
        if not len(seconds):
            axes.text(0.5, 0.5, "none in this recording", transform=axes.transAxes, ha="center", color=MUTED)
            continue
        millis = 1e3 * seconds
        top = max(60.0, float(np.percentile(millis, 99.5)))
        axes.hist(np.clip(millis, 0.0, top), bins=np.arange(-2.5, top + 5.0, 5.0), color=colour, linewidth=0)
        for percent in (50, 99):
            value = float(np.percentile(millis, percent))
            axes.axvline(value, color=INK, linewidth=0.9, linestyle=(0, (4, 2)))
            axes.annotate(f"p{percent} {value:.0f} ms", (value, 0.93), (4, 0), xycoords=("data", "axes fraction"),
                          textcoords="offset points", fontsize=8)  # fmt: skip
    return save(figure, path)


def write_overview(recording: Recording, path: Path) -> Path:
    """All runs from above in one picture, for a README."""
    plt = pyplot()
    runs = recording.runs[:6]
    columns = min(3, max(1, len(runs)))
    lines = math.ceil(max(1, len(runs)) / columns)
    height = 1.75 * lines + 0.5
    figure, grid = plt.subplots(lines, columns, figsize=(WIDTH_IN, height), squeeze=False)
    figure.subplots_adjust(
        left=0.025, right=0.992, top=1 - 0.3 / height, bottom=0.55 / height, hspace=0.28, wspace=0.09
    )
    extents = np.array([extent(run) for run in runs])  # (R, 2, 2)
    low, high = extents[:, 0].min(axis=0), extents[:, 1].max(axis=0)  # the same for all
    used: set[str] = set()
    for axes, run in zip(grid.flat, runs, strict=False):
        used |= set(draw_top_view(axes, run, recording.robot, 0.75))
        axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
        axes.set_title(run.title, fontsize=9.5, loc="left")
    for axes in list(grid.flat)[len(runs) :]:
        axes.remove()
    handles = legend_handles([key for key in COMMAND if key in used], True, any(run.events for run in runs))
    figure.legend(handles=handles, loc="lower left", bbox_to_anchor=(0.02, 0.0), ncol=9, fontsize=8, handlelength=1.4)
    path.parent.mkdir(parents=True, exist_ok=True)
    return save(figure, path, dpi=110)
