"""A picture of a failed BARN run: the world from above, the path coloured by who was in command, and how it ended."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dsac_robot.apps.barn_runs import GOAL_TOLERANCE_M, Job
from dsac_robot.apps.report_style import COMMAND, EVENT, GOAL, INK, STONE, command_of, pyplot, save
from dsac_robot.core.guard_geometry import to_frame
from dsac_robot.core.reasons import Level, Reason
from dsac_robot.core.robot import Robot
from dsac_robot.data.decode import GuardState

if TYPE_CHECKING:
    from dsac_robot.apps.closed_loop import Drive
    from sim.worlds import World

LAST_S = 5.0  # what the guard said in the last seconds


def write_picture(job: Job, world: World, done: Drive, robot: Robot) -> Path:
    """Write ``world_N_trial_T_OUTCOME.png`` into ``job.pictures``; the path."""
    plt = pyplot()
    figure, axes = plt.subplots(figsize=(6.2, 8.5), layout="constrained")
    for x, y, radius in world.cylinders_m:
        axes.add_patch(plt.Circle((x, y), radius, color=STONE, linewidth=0))
    axes.add_patch(plt.Circle(world.goal_m, GOAL_TOLERANCE_M, fill=False, color=GOAL, linestyle="--"))
    axes.plot(*world.goal_m, "*", color=GOAL)
    axes.plot(*world.start[:2], "o", color=INK, markerfacecolor="white")
    _draw_path(axes, done)
    end = done.trace[-1] if len(done.trace) else np.array([0.0, *world.start, 0.0, 0.0, 0.0])
    outline = to_frame(robot.footprint, (float(end[1]), float(end[2]), float(end[3])))
    axes.add_patch(plt.Polygon(outline, color=INK, alpha=0.8))
    nose = to_frame(np.array([[0.0, 0.0], [0.4, 0.0]]), (float(end[1]), float(end[2]), float(end[3])))
    axes.plot(*nose.T, color=EVENT)
    axes.set_aspect("equal")
    x0, y0 = min(world.start[0], world.goal_m[0]), min(world.start[1], world.goal_m[1])
    axes.set_xlim(x0 - 2.6, max(world.start[0], world.goal_m[0]) + 2.6)
    axes.set_ylim(y0 - 1.5, max(world.start[1], world.goal_m[1]) + 1.5)
    axes.set_title(f"world {job.world}, trial {job.trial}: {_words(done)}", loc="left")
    axes.set_xlabel(_last_words(done))
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        axes.legend(handles, labels, loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=7)
    folder = Path(job.pictures)
    folder.mkdir(parents=True, exist_ok=True)
    return save(figure, folder / f"world_{job.world}_trial_{job.trial}_{done.outcome}.png", dpi=110)


def _draw_path(axes: object, done: Drive) -> None:
    """The path in stretches of one commander each."""
    trace, seen = done.trace, set()
    keys = [command_of(GuardState(0, 0, Level(int(r[5])), Reason(int(r[6])), 0.0, 0.0)) for r in trace]
    first = 0
    for i in range(1, len(keys) + 1):
        if i == len(keys) or keys[i] != keys[first]:
            label, colour = COMMAND[keys[first]]
            stretch = trace[first : i + 1, 1:3]
            axes.plot(*stretch.T, color=colour, linewidth=2, label=None if label in seen else label)  # type: ignore[attr-defined]
            seen.add(label)
            first = i


def _words(done: Drive) -> str:
    if done.outcome == "contact":
        return f"contact at {done.time_s:.1f} s, {done.touch_speed_mps:.2f} m/s"
    return f"{done.outcome} at {done.time_s:.1f} s"


def _last_words(done: Drive) -> str:
    """What the guard said most in the last seconds."""
    if not len(done.trace):
        return ""
    last = done.trace[done.trace[:, 0] > done.trace[-1, 0] - LAST_S]
    numbers, counts = np.unique(last[:, 6].astype(int), return_counts=True)
    order = np.argsort(-counts)
    parts = [f"{Reason(int(numbers[i])).name} {counts[i] / len(last):.0%}" for i in order[:3]]
    return "\n".join([f"guard, last {LAST_S:.0f} s:", *parts])
