"""The environments by name: ``import sim; gymnasium.make("dsac_robot/Navigate-v0", robot="jackal")``.

Physics is imported when an environment is made, not before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import gymnasium

from dsac_robot.core.observation import layout_for
from dsac_robot.core.robot import Robot, load_robot

if TYPE_CHECKING:
    from dsac_robot.core.navigate import NavigateParams
    from dsac_robot.core.track import TrackParams
    from sim.navigate import NavigateEnv, NavigateEnvParams
    from sim.track import TrackEnv, TrackEnvParams

NAVIGATE, TRACK = "dsac_robot/Navigate-v0", "dsac_robot/Track-v0"


def register_envs() -> None:
    """Make the names known to Gymnasium. A second call changes nothing."""
    for name, maker in ((NAVIGATE, "make_navigate"), (TRACK, "make_track")):
        if name not in gymnasium.registry:
            gymnasium.register(id=name, entry_point=f"{__name__}:{maker}")


def make_navigate(
    robot: str | Robot = "jackal",
    task: NavigateParams | None = None,
    params: NavigateEnvParams | None = None,
) -> NavigateEnv:
    """Task ``navigate`` for a robot, a robot's name or the path of its file; defaults of task and environment.

    Raises ParameterError for an unknown robot.
    """
    from dsac_robot.core.navigate import NavigateParams
    from sim.navigate import NavigateEnv, NavigateEnvParams

    chosen = load_robot(robot) if isinstance(robot, str) else robot
    layout = layout_for("navigate", chosen)
    return NavigateEnv(chosen, layout, task or NavigateParams(), params or NavigateEnvParams())


def make_track(
    robot: str | Robot = "jackal",
    task: TrackParams | None = None,
    params: TrackEnvParams | None = None,
) -> TrackEnv:
    """Task ``track`` for a robot, a robot's name or the path of its file; defaults of task and environment.

    Raises ParameterError for an unknown robot.
    """
    from dsac_robot.core.track import TrackParams
    from sim.track import TrackEnv, TrackEnvParams

    chosen = load_robot(robot) if isinstance(robot, str) else robot
    return TrackEnv(chosen, layout_for("track", chosen), task or TrackParams(), params or TrackEnvParams())
