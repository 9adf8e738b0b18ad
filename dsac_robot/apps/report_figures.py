"""The pictures of a report: top view, time lines, latency, overview. Each function writes one PNG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dsac_robot.apps.report_data import Recording, Run, pose_at, scan_near
from dsac_robot.apps.report_facts import JUMP_M, MOVING_MPS, Facts, Latency, obstacles_at
from dsac_robot.core.lidar import beam_directions, free_distance, returns_in_base
from dsac_robot.core.navigate import NavigateParams
from dsac_robot.core.reasons import Level, OodLevel, Reason
from dsac_robot.core.robot import Robot
from dsac_robot.core.values import NS, Floats, Odom, ns
from dsac_robot.data.decode import GuardState

INK, MUTED, GRID, PAPER = "#1f2933", "#7b8794", "#e4e7eb", "#ffffff"
STONE, SWEEP, GOAL, EVENT = "#9aa5b1", "#cfe8ff", "#1b9e5a", "#b3127f"
# Who is in command: label and colour, from best to worst. The same everywhere.
COMMAND = {
    "policy": ("policy", "#2364aa"),
    "eased": ("policy, within rate limits", "#73b3e8"),
    "teleop": ("operator", "#5f7a61"),
    "limited": ("guard: changed for clearance", "#f5a700"),
    "caution": ("guard: slowed for the monitor", "#e8702a"),
    "fallback": ("fallback", "#8f5bd6"),
    "stop": ("controlled stop", "#d7263d"),
    "emergency": ("latched stop", "#6b0f1a"),
}
MONITOR = {OodLevel.OK: "#9fd3b5", OodLevel.CAUTION: "#e8702a", OodLevel.ALARM: "#d7263d"}
DPI = 180
WIDTH_IN = 11.0
AFTER_EVENT_NS = ns(0.3)
CLEARANCE_SHOWN_M = 1.5
LABEL_S_MIN = 0.045  # of the axis' width: shorter spans get no label


def command_of(state: GuardState) -> str:
    """The key of COMMAND for what the guard said."""
    if state.level == Level.LIMITED:
        if state.reason == Reason.RATE_LIMIT:
            return "eased"
        return "caution" if state.reason == Reason.OOD_CAUTION else "limited"
    if state.level == Level.DRIVE:
        return "teleop" if state.reason == Reason.TELEOP else "policy"
    return {Level.FALLBACK: "fallback", Level.STOP: "stop", Level.EMERGENCY: "emergency"}[state.level]


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    pyplot.rcParams.update(
        {
            "font.family": ["DejaVu Sans"],
            "font.size": 9,
            "text.color": INK,
            "axes.labelcolor": INK,
            "axes.edgecolor": MUTED,
            "axes.linewidth": 0.6,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "xtick.color": MUTED,
            "ytick.color": MUTED,
            "xtick.labelcolor": INK,
            "ytick.labelcolor": INK,
            "grid.color": GRID,
            "legend.frameon": False,
            "figure.facecolor": PAPER,
        }
    )
    return pyplot


def _save(figure: Any, path: Path, dpi: int = DPI) -> Path:
    figure.savefig(path, dpi=dpi, metadata={"Software": None})
    _pyplot().close(figure)
    return path


# -- top view ----------------------------------------------------------------------------------------------------------


class _Frame:
    """Turns the odom frame so that the way from the start to the goal goes from left to right."""

    def __init__(self, run: Run) -> None:
        start = run.poses[0] if run.poses else Odom(0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0)
        self.origin = np.array([start.x_m, start.y_m])
        goal = np.array([run.goal.x_m, run.goal.y_m]) if run.goal else self.origin + (1.0, 0.0)
        angle = math.atan2(*(goal - self.origin)[::-1])
        self.turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
        self.angle_rad = angle

    def __call__(self, points: Any) -> Floats:
        """Points of the odom frame in the picture's. # (N, 2) -> (N, 2)"""
        turned: Floats = (np.asarray(points, np.float64).reshape(-1, 2) - self.origin) @ self.turn.T
        return turned


def _in_odom(pose: Odom, points: Floats) -> Floats:
    cos, sin = math.cos(pose.yaw_rad), math.sin(pose.yaw_rad)
    return points @ np.array([[cos, sin], [-sin, cos]]) + (pose.x_m, pose.y_m)


def write_top_view(run: Run, robot: Robot, path: Path) -> Path:
    """The run from above: obstacles, one lidar sweep, the path coloured by who was in command."""
    plt = _pyplot()
    low, high = _extent(run, robot)
    height = WIDTH_IN * 0.93 * (high[1] - low[1]) / (high[0] - low[0])
    figure = plt.figure(figsize=(WIDTH_IN, height + 0.95))
    axes = figure.add_axes((0.045, 0.42 / (height + 0.95), 0.945, height / (height + 0.95)))
    used = draw_top_view(axes, run, robot)
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
    axes.set_xlabel("m, from the start towards the goal", fontsize=8, color=MUTED, labelpad=1)
    handles = _legend_handles(used, bool(run.scans), bool(run.events))
    figure.legend(handles=handles, loc="upper left", bbox_to_anchor=(0.04, 1.0), ncol=8, fontsize=8, handlelength=1.4)
    return _save(figure, path)


def _extent(run: Run, robot: Robot) -> tuple[Floats, Floats]:
    frame = _Frame(run)
    shown = [frame([(o.x_m, o.y_m) for o in run.poses])] if run.poses else [np.zeros((1, 2))]
    if run.goal:
        shown.append(frame([(run.goal.x_m, run.goal.y_m)]))
    points = np.concatenate(shown)
    low, high = points.min(axis=0) - (1.3, 2.0), points.max(axis=0) + (1.6, 2.0)
    middle, half = 0.5 * (low[1] + high[1]), max(0.5 * (high[1] - low[1]), 0.2 * (high[0] - low[0]))
    half = min(half, 0.45 * (high[0] - low[0]))
    return np.array([low[0], middle - half]), np.array([high[0], middle + half])


def draw_top_view(axes: Any, run: Run, robot: Robot, scale: float = 1.0) -> list[str]:
    """Draw into ``axes``; the keys of COMMAND that occur."""
    frame = _Frame(run)
    axes.set_aspect("equal")
    axes.grid(True, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.tick_params(length=2, labelsize=7.5)
    event_ns = run.events[0].stamp_ns if run.events else None
    moving = [o.stamp_ns for o in run.poses if abs(o.speed_mps) > MOVING_MPS]
    middle_ns = moving[len(moving) // 3] if moving else run.begin_ns
    instant_ns = event_ns + AFTER_EVENT_NS if event_ns is not None else middle_ns
    _draw_sweep(axes, run, robot, frame, instant_ns)
    _draw_obstacles(axes, run, robot, frame)
    used = _draw_path(axes, run, frame, scale)
    _draw_robot(axes, run, robot, frame, scale)
    if run.goal is not None:
        goal = frame([(run.goal.x_m, run.goal.y_m)])[0]
        from matplotlib.patches import Circle

        tolerance = NavigateParams.goal_tolerance_m
        axes.add_patch(Circle(goal, tolerance, fill=False, edgecolor=GOAL, linewidth=1.4 * scale, linestyle="--"))
        axes.plot(*goal, marker="*", color=GOAL, markersize=9 * scale, markeredgewidth=0, zorder=6)
    pose = pose_at(run, event_ns) if event_ns is not None else None
    if pose is not None:
        axes.plot(*frame([(pose.x_m, pose.y_m)])[0], "X", color=EVENT, markersize=9 * scale, mec="white", zorder=9)
    return used


def _draw_sweep(axes: Any, run: Run, robot: Robot, frame: _Frame, instant_ns: int) -> None:
    """The free space and the returns of one scan."""
    scan, pose = scan_near(run, instant_ns), None
    if scan is not None:
        pose = pose_at(run, scan.stamp_ns)
    if scan is None or pose is None or len(scan.ranges_m) != robot.lidar.beams:
        return
    free, _ = free_distance(scan.ranges_m, robot.lidar)
    sensor = np.array([[robot.lidar.x_m, robot.lidar.y_m]])
    fan = np.concatenate([sensor, sensor + beam_directions(robot.lidar) * free[:, None].astype(np.float64)])
    axes.fill(*frame(_in_odom(pose, fan)).T, color=SWEEP, alpha=0.75, linewidth=0, zorder=1)
    returns = frame(_in_odom(pose, returns_in_base(scan.ranges_m, robot.lidar)))
    axes.plot(*returns.T, ".", color="#3e8ed0", markersize=2.2, markeredgewidth=0, zorder=4)


def _draw_obstacles(axes: Any, run: Run, robot: Robot, frame: _Frame) -> None:
    """The simulator's cylinders; without them, what the lidar met on the way."""
    from matplotlib.collections import EllipseCollection

    if run.obstacles:
        first, last = run.obstacles[0].cylinders_m, run.obstacles[-1].cylinders_m
        known = {tuple(row) for row in first.round(4).tolist()}
        new = np.array([tuple(row) not in known for row in last.round(4).tolist()], bool)
        for rows, colour, order in ((last[~new], STONE, 3), (last[new], EVENT, 5)):
            sizes = 2.0 * rows[:, 2]
            discs = EllipseCollection(
                sizes, sizes, np.zeros(len(rows)), units="xy", offsets=frame(rows[:, :2]), offset_transform=axes.transData
            )
            discs.set(facecolor=colour, edgecolor="none", zorder=order)
            axes.add_collection(discs)
        return
    clouds = []
    for item in run.scans[:: max(1, len(run.scans) // 60)]:
        pose = pose_at(run, item.value.stamp_ns)
        if pose is not None and len(item.value.ranges_m) == robot.lidar.beams:
            clouds.append(_in_odom(pose, returns_in_base(item.value.ranges_m, robot.lidar)))
    if clouds:
        axes.plot(*frame(np.concatenate(clouds)).T, ".", color=STONE, markersize=1.5, markeredgewidth=0, zorder=3)


def _draw_path(axes: Any, run: Run, frame: _Frame, scale: float) -> list[str]:
    from matplotlib.collections import LineCollection

    if len(run.poses) < 2:
        return []
    points = frame([(o.x_m, o.y_m) for o in run.poses])
    whole = np.linalg.norm(np.diff(points, axis=0), axis=1) < JUMP_M
    segments = np.stack([points[:-1], points[1:]], axis=1)[whole]
    stamps = np.array([o.stamp_ns for o in run.poses[1:]])[whole]
    keys = _commands_at(run, stamps)
    colours = [COMMAND[key][1] if key else MUTED for key in keys]
    axes.add_collection(LineCollection(segments, colors="white", linewidths=4.6 * scale, zorder=6, capstyle="round"))
    axes.add_collection(LineCollection(segments, colors=colours, linewidths=3.0 * scale, zorder=7, capstyle="round"))
    return [key for key in COMMAND if key in keys]


def _commands_at(run: Run, stamps_ns: Any) -> list[str]:
    """Who was in command at each instant; "" before the guard's first word."""
    if not run.guard:
        return [""] * len(stamps_ns)
    times = np.array([s.stamp_ns for s in run.guard])
    index = np.searchsorted(times, stamps_ns, side="right") - 1
    return [command_of(run.guard[i]) if i >= 0 else "" for i in index]


def _draw_robot(axes: Any, run: Run, robot: Robot, frame: _Frame, scale: float) -> None:
    """The footprint once a second, and filled at the end."""
    next_ns = 0
    for pose in run.poses:
        if pose.stamp_ns >= next_ns:
            next_ns = pose.stamp_ns + NS
            outline = frame(_in_odom(pose, robot.footprint))
            axes.fill(*outline.T, facecolor="none", edgecolor=INK, linewidth=0.5 * scale, alpha=0.35, zorder=5)
    if run.poses:
        outline = frame(_in_odom(run.poses[-1], robot.footprint))
        axes.fill(*outline.T, facecolor=INK, alpha=0.85, linewidth=0, zorder=8)
        axes.plot(*frame([(run.poses[0].x_m, run.poses[0].y_m)])[0], "o", ms=5 * scale, mfc="white", mec=INK, zorder=8)


def _legend_handles(used: Sequence[str], sweep: bool, event: bool) -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [Line2D([], [], color=COMMAND[key][1], lw=3, label=COMMAND[key][0]) for key in used]
    if event:
        handles.append(Line2D([], [], color=EVENT, marker="X", lw=0, mec="white", ms=8, label="event"))
    if sweep:
        handles.append(Patch(color=SWEEP, label="one lidar sweep"))
    handles.append(Line2D([], [], color=GOAL, marker="*", lw=0, ms=8, mec=GOAL, label="goal"))
    return handles


# -- over time ---------------------------------------------------------------------------------------------------------


def write_time_lines(run: Run, facts: Facts, path: Path) -> Path:
    """Speed, clearance, the guard's and the monitor's words over the time of the run."""
    plt = _pyplot()
    ratios = {"height_ratios": [2.1, 1.3, 0.55, 0.9], "hspace": 0.16}
    figure, rows = plt.subplots(4, 1, figsize=(WIDTH_IN, 4.9), sharex=True, gridspec_kw=ratios)
    figure.subplots_adjust(left=0.075, right=0.985, top=0.955, bottom=0.09)
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
        rows[0].annotate(event.text, at, xycoords=("data", "axes fraction"), color=EVENT, fontsize=8.5, ha="center")
    rows[3].set(xlim=(0.0, end_s), xlabel="s since the run began (simulated or ROS time)")
    figure.align_ylabels(rows)
    return _save(figure, path)


def _draw_speed(axes: Any, run: Run) -> None:
    asked, sent, poses = run.asked, run.sent, run.poses
    if asked:
        times = [run.seconds(r.value.stamp_ns) for r in asked]
        speeds = [r.value.speed_mps for r in asked]
        axes.step(times, speeds, where="post", color="#b7791f", linewidth=1.0, label="policy asks")
    if sent:
        times = [run.seconds(c.stamp_ns) for c in sent]
        axes.step(times, [c.speed_mps for c in sent], where="post", color="#2364aa", linewidth=1.5, label="guard sends")
    if poses:
        label = "true" if run.truth else "odometry"
        times = [run.seconds(o.stamp_ns) for o in poses]
        axes.plot(times, [o.speed_mps for o in poses], color=INK, linewidth=1.0, alpha=0.8, label=label)
    axes.set_ylabel("speed, m/s")
    axes.axhline(0.0, color=MUTED, linewidth=0.6)
    axes.legend(loc="lower right", ncol=3, fontsize=8)


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
    for level, name in ((caution, "caution"), (alarm, "alarm")):
        axes.axhline(level, color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
        axes.annotate(name, (0.0, level), (3, 1.5), textcoords="offset points", fontsize=7, color=MUTED)
    finite = scores[np.isfinite(scores)]
    top = max(1.15 * alarm, min(float(finite.max()) if len(finite) else 0.0, 3.0 * alarm))
    axes.set_ylim(min(0.0, float(finite.min()) if len(finite) else 0.0), top if top > 0.0 else 1.0)


# -- latency and overview ----------------------------------------------------------------------------------------------


def write_latency(latency: Latency, path: Path) -> Path:
    """Histograms of the time from a scan to the command made of it."""
    plt = _pyplot()
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
    return _save(figure, path)


def write_overview(recording: Recording, path: Path) -> Path:
    """All runs from above in one picture, for a README."""
    plt = _pyplot()
    runs = recording.runs[:6]
    columns = min(3, max(1, len(runs)))
    lines = math.ceil(max(1, len(runs)) / columns)
    figure, grid = plt.subplots(lines, columns, figsize=(WIDTH_IN, 2.3 * lines + 0.45), squeeze=False)
    figure.subplots_adjust(left=0.025, right=0.992, top=1 - 0.3 / (2.3 * lines + 0.45), bottom=0.12, hspace=0.2, wspace=0.09)
    used: set[str] = set()
    for axes, run in zip(grid.flat, runs, strict=False):
        used |= set(draw_top_view(axes, run, recording.robot, 0.75))
        low, high = _extent(run, recording.robot)
        axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
        axes.set_title(run.title, fontsize=9.5, loc="left")
    for axes in list(grid.flat)[len(runs) :]:
        axes.remove()
    handles = _legend_handles([key for key in COMMAND if key in used], True, any(run.events for run in runs))
    figure.legend(handles=handles, loc="lower left", bbox_to_anchor=(0.02, 0.0), ncol=9, fontsize=8, handlelength=1.4)
    path.parent.mkdir(parents=True, exist_ok=True)
    return _save(figure, path, dpi=110)
