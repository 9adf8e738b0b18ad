"""A picture of a robot from above and from the side: the description's lines over the compiled model's shapes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from dsac_robot.apps.report_style import COMMAND, INK, MUTED, PAPER, STONE, SWEEP, WIDTH_IN, pyplot, save
from dsac_robot.core.robot import Robot
from sim.robot_check import Compiled

BODY, TYRE, LIDAR = "#e4e7eb", "#3e4c59", COMMAND["policy"][1]
CENTRE = COMMAND["stop"][1]


def draw(robot: Robot, model: Compiled, path: Path) -> Path:
    """Write the PNG; its path. The filled shapes are the compiled model, the dashed line is ``base.footprint_m``."""
    plt = pyplot()
    figure, (top, side) = plt.subplots(1, 2, figsize=(WIDTH_IN, 0.52 * WIDTH_IN), layout="constrained")
    corners = np.vstack([robot.footprint, model.outline_m])
    size = float(np.ptp(corners, axis=0).max())
    x_limits = (corners[:, 0].min() - 0.35 * size, corners[:, 0].max() + 0.35 * size)
    _top(top, robot, model, size)
    _side(side, robot, model, size)
    for axes, name in ((top, "y, left (m)"), (side, "z, up (m)")):
        axes.set_aspect("equal")
        axes.set_xlim(x_limits)
        axes.set_xlabel("x, forward (m)")
        axes.set_ylabel(name)
        axes.grid(True, linewidth=0.5)
        axes.set_axisbelow(True)
    base, lidar = robot.base, robot.lidar
    figure.suptitle(
        f"{robot.name}: {base.drive.replace('_', ' ')}, {model.mass_kg:g} kg, track {model.track_m:g} m, "
        f"wheels {2000.0 * model.wheel_radius_m:.0f} mm, {robot.limits.speed_mps_max:g} m/s, "
        f"lidar {lidar.beams} beams to {lidar.range_max_m:g} m",
        fontsize=11,
    )
    figure.legend(*top.get_legend_handles_labels(), loc="outside lower center", ncols=6)
    path.parent.mkdir(parents=True, exist_ok=True)
    return save(figure, path)


def _hull(points: Any) -> Any:
    """Corners of one level of the compiled body, in order. # (2V, 2) -> (V, 2)"""
    unique = np.unique(np.round(points, 6), axis=0)
    centre = unique.mean(axis=0)
    return unique[np.argsort(np.arctan2(*(unique - centre).T[::-1]))]


def _top(axes: Any, robot: Robot, model: Compiled, size: float) -> None:
    from matplotlib.patches import Polygon, Rectangle, Wedge

    axes.set_title("from above", loc="left")
    x, y, _, yaw = model.lidar_pose
    lidar = robot.lidar
    first = math.degrees(yaw + lidar.angle_min_rad)
    last = first + min(math.degrees(lidar.angle_increment_rad * lidar.beams), 360.0)
    axes.add_patch(Wedge((x, y), 0.95 * size, first, last, color=SWEEP, alpha=0.5, zorder=0, label="seen by the lidar"))
    if lidar.range_min_m < size:
        axes.add_patch(
            Wedge(
                (x, y),
                lidar.range_min_m,
                first,
                last,
                facecolor=PAPER,
                edgecolor=STONE,
                zorder=0.5,
                label="too close for it",
            )
        )
    axes.add_patch(Polygon(_hull(model.outline_m), facecolor=BODY, edgecolor=STONE, alpha=0.9, zorder=2, label="body"))
    width = robot.base.wheel_width_m or 0.2 * model.wheel_radius_m
    for i, (wheel_x, wheel_y, _) in enumerate(model.wheels_m):
        corner = (wheel_x - model.wheel_radius_m, wheel_y - 0.5 * width)
        label = "driven wheel" if i == 0 else None
        axes.add_patch(Rectangle(corner, 2.0 * model.wheel_radius_m, width, color=TYRE, zorder=3, label=label))
    for caster_x, caster_y, radius in _casters(model):
        axes.add_patch(_circle(caster_x, caster_y, radius))
    outline = np.vstack([robot.footprint, robot.footprint[:1]])
    axes.plot(*outline.T, "--", color=INK, linewidth=1.0, zorder=4, label="footprint_m")
    axes.plot(x, y, "o", color=LIDAR, markersize=7, zorder=5)
    axes.annotate("lidar", (x, y), (6, 6), textcoords="offset points", color=LIDAR, zorder=6)
    axes.plot(*model.com_m[:2], "P", color=CENTRE, markersize=7, zorder=5, label="centre of mass")
    axes.plot(0.0, 0.0, "+", color=INK, markersize=9, zorder=5)
    low, high = robot.footprint.min(axis=0), robot.footprint.max(axis=0)
    axes.set_ylim(low[1] - 0.35 * size, high[1] + 0.35 * size)
    _arrow(axes, (low[0], low[1] - 0.12 * size), (high[0], low[1] - 0.12 * size), f"{high[0] - low[0]:.3f} m")
    _arrow(axes, (low[0] - 0.12 * size, low[1]), (low[0] - 0.12 * size, high[1]), f"{high[1] - low[1]:.3f} m", 90)


def _side(axes: Any, robot: Robot, model: Compiled, size: float) -> None:
    from matplotlib.patches import Circle, Rectangle

    axes.set_title("from the right", loc="left")
    low, high = model.outline_m[:, 0].min(), model.outline_m[:, 0].max()
    clearance = 0.25 * model.wheel_radius_m
    axes.add_patch(
        Rectangle((low, clearance), high - low, model.top_m - clearance, facecolor=BODY, edgecolor=STONE, zorder=2)
    )
    for wheel_x, wheel_y, wheel_z in model.wheels_m:
        if wheel_y < 0.0:
            axes.add_patch(Circle((wheel_x, wheel_z), model.wheel_radius_m, color=TYRE, zorder=3))
    for caster_x, _, radius in _casters(model):
        axes.add_patch(_circle(caster_x, radius, radius))
    x, _, z, _ = model.lidar_pose
    axes.axhline(z, color=LIDAR, linewidth=0.8, linestyle=":", zorder=1)
    axes.plot(x, z, "o", color=LIDAR, markersize=7, zorder=5)
    axes.annotate(f"lidar, {z:.3f} m", (x, z), (6, 6), textcoords="offset points", color=LIDAR, zorder=6)
    axes.plot(model.com_m[0], model.com_m[2], "P", color=CENTRE, markersize=7, zorder=5)
    axes.axhline(0.0, color=INK, linewidth=1.0)
    axes.set_ylim(-0.15 * size, max(model.top_m, z) + 0.35 * size)
    _arrow(axes, (low - 0.12 * size, 0.0), (low - 0.12 * size, model.top_m), f"{model.top_m:.3f} m", 90)


def _casters(model: Compiled) -> list[tuple[float, float, float]]:
    """x, y and radius of each."""
    compiled = model.parts.model
    casters = model.parts.support_geoms[len(model.wheels_m) :]
    rows = [(*compiled.geom_pos[i][:2], compiled.geom_size[i, 0]) for i in casters]
    return [(float(x), float(y), float(radius)) for x, y, radius in rows]


def _circle(x: float, y: float, radius: float) -> Any:
    from matplotlib.patches import Circle

    return Circle((x, y), radius, facecolor=PAPER, edgecolor=TYRE, linewidth=1.5, zorder=3)


def _arrow(axes: Any, start: tuple[float, float], end: tuple[float, float], text: str, rotation: float = 0.0) -> None:
    axes.annotate("", end, start, arrowprops={"arrowstyle": "<->", "color": MUTED, "linewidth": 0.8}, zorder=4)
    middle = (0.5 * (start[0] + end[0]), 0.5 * (start[1] + end[1]))
    box = {"facecolor": PAPER, "edgecolor": "none", "pad": 1.0}
    axes.text(*middle, text, ha="center", va="center", color=MUTED, rotation=rotation, bbox=box, zorder=5)
