"""A run from above: obstacles, one lidar sweep, the path coloured by who was in command."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dsac_robot.apps.report_data import Run, pose_at, scan_near
from dsac_robot.apps.report_facts import JUMP_M, MOVING_MPS
from dsac_robot.apps.report_style import (
    COMMAND,
    EVENT,
    GOAL,
    INK,
    MUTED,
    STONE,
    SWEEP,
    WIDTH_IN,
    command_of,
    pyplot,
    save,
)
from dsac_robot.core.geometry import box_corners
from dsac_robot.core.lidar import beam_directions, free_distance, returns_in_base
from dsac_robot.core.navigate import NavigateParams
from dsac_robot.core.robot import Robot
from dsac_robot.core.values import NS, Floats, Odom, ns

SEEN_M = 1e-4  # shorter pieces of the path cannot be seen
AFTER_EVENT_NS = ns(0.3)


class _Frame:
    """Turns the odom frame so that the way from the start to the goal goes from left to right."""

    def __init__(self, run: Run) -> None:
        start = run.poses[0] if run.poses else Odom(0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0)
        self.origin = np.array([start.x_m, start.y_m])
        goal = np.array([run.goal.x_m, run.goal.y_m]) if run.goal else self.origin + np.array([1.0, 0.0])
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
    plt = pyplot()
    low, high = extent(run)
    height = WIDTH_IN * 0.93 * (high[1] - low[1]) / (high[0] - low[0])
    figure = plt.figure(figsize=(WIDTH_IN, height + 0.82))
    axes = figure.add_axes((0.045, 0.42 / (height + 0.82), 0.945, height / (height + 0.82)))
    used = draw_top_view(axes, run, robot)
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
    axes.set_xlabel("m, from the start towards the goal", fontsize=8, color=MUTED, labelpad=1)
    handles = legend_handles(used, bool(run.scans), bool(run.events))
    figure.legend(handles=handles, loc="upper left", bbox_to_anchor=(0.04, 1.0), ncol=8, fontsize=8, handlelength=1.4)
    return save(figure, path)


def extent(run: Run) -> tuple[Floats, Floats]:
    """Corners of the part of the floor that is shown, in the picture's frame. # (2,), (2,)"""
    frame = _Frame(run)
    shown = [frame([(o.x_m, o.y_m) for o in run.poses])] if run.poses else [np.zeros((1, 2))]
    if run.goal:
        shown.append(frame([(run.goal.x_m, run.goal.y_m)]))
    points = np.concatenate(shown)
    low, high = points.min(axis=0) - np.array([1.3, 2.0]), points.max(axis=0) + np.array([1.6, 2.0])
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
    """The simulator's walls and cylinders; without them, what the lidar met on the way."""
    from matplotlib.collections import PolyCollection

    if run.walls and len(run.walls[-1].walls_m):
        corners = frame(box_corners(run.walls[-1].walls_m)).reshape(-1, 4, 2)
        axes.add_collection(PolyCollection(list(corners), facecolor=STONE, edgecolor="none", zorder=3))
    _draw_movers(axes, run, frame)
    if run.obstacles:
        first, last = run.obstacles[0].cylinders_m, run.obstacles[-1].cylinders_m
        known = {tuple(row) for row in first.round(4).tolist()}
        new = np.array([tuple(row) not in known for row in last.round(4).tolist()], bool)
        for rows, colour, order in ((last[~new], STONE, 3), (last[new], EVENT, 5)):
            _draw_discs(axes, rows, frame, facecolor=colour, edgecolor="none", zorder=order)
        return
    clouds = []
    for item in run.scans[:: max(1, len(run.scans) // 60)]:
        pose = pose_at(run, item.value.stamp_ns)
        if pose is not None and len(item.value.ranges_m) == robot.lidar.beams:
            clouds.append(_in_odom(pose, returns_in_base(item.value.ranges_m, robot.lidar)))
    if clouds:
        axes.plot(*frame(np.concatenate(clouds)).T, ".", color=STONE, markersize=1.5, markeredgewidth=0, zorder=3)


def _draw_movers(axes: Any, run: Run, frame: _Frame) -> None:
    """What moves: its outline once a second, as the robot's is drawn, and filled at the end."""
    due_ns = 0
    for moment in run.movers:
        if moment.stamp_ns >= due_ns and len(moment.cylinders_m):
            due_ns = moment.stamp_ns + NS
            style = {"facecolor": "none", "edgecolor": MUTED, "linewidth": 0.6, "alpha": 0.6, "zorder": 3}
            _draw_discs(axes, moment.cylinders_m, frame, **style)
    if run.movers:
        _draw_discs(axes, run.movers[-1].cylinders_m, frame, facecolor=MUTED, edgecolor="none", zorder=5)


def _draw_discs(axes: Any, rows: Floats, frame: _Frame, **style: Any) -> None:
    """Cylinders from above. # (N, 3)"""
    from matplotlib.collections import EllipseCollection

    sizes, flat, at = 2.0 * rows[:, 2], np.zeros(len(rows)), frame(rows[:, :2])
    discs = EllipseCollection(sizes, sizes, flat, units="xy", offsets=at, offset_transform=axes.transData)
    discs.set(**style)
    axes.add_collection(discs)


def _draw_path(axes: Any, run: Run, frame: _Frame, scale: float) -> list[str]:
    from matplotlib.collections import LineCollection

    if len(run.poses) < 2:
        return []
    points = frame([(o.x_m, o.y_m) for o in run.poses])
    whole = np.linalg.norm(np.diff(points, axis=0), axis=1) < JUMP_M
    segments = np.stack([points[:-1], points[1:]], axis=1)[whole]
    stamps = np.array([o.stamp_ns for o in run.poses[1:]])[whole]
    keys = ["policy" if key == "eased" else key for key in _commands_at(run, stamps)]
    colours = [COMMAND[key][1] if key else MUTED for key in keys]
    axes.add_collection(LineCollection(segments, colors="white", linewidths=4.6 * scale, zorder=6, capstyle="round"))
    axes.add_collection(LineCollection(segments, colors=colours, linewidths=3.0 * scale, zorder=7, capstyle="round"))
    moved = np.linalg.norm(segments[:, 1] - segments[:, 0], axis=1) > SEEN_M
    return [key for key in COMMAND if any(k == key and m for k, m in zip(keys, moved.tolist(), strict=True))]


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


def legend_handles(used: Sequence[str], sweep: bool, event: bool) -> list[Any]:
    """What the colours mean: of the keys of COMMAND that are ``used``, and of what else is drawn."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [Line2D([], [], color=COMMAND[key][1], lw=3, label=COMMAND[key][0]) for key in used]
    if event:
        handles.append(Line2D([], [], color=EVENT, marker="X", lw=0, mec="white", ms=8, label="event"))
    if sweep:
        handles.append(Patch(color=SWEEP, label="one lidar sweep"))
    handles.append(Line2D([], [], color=GOAL, marker="*", lw=0, ms=8, mec=GOAL, label="goal"))
    return handles
