"""A bundle of task track made in no time: a policy linear in the path ahead, which follows it and looks at nothing."""

from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dsac_robot.bundle.card import Card, Recorded
from dsac_robot.bundle.write import write_bundle
from dsac_robot.core.observation import PATH_AHEAD_S, ObservationBuilder, layout_for
from dsac_robot.core.ood import MonitorSpec, ScoreSpec
from dsac_robot.core.robot import Robot
from tests.bundle.conftest import dense_graph, model_bytes

QUIET = MonitorSpec((ScoreSpec("lateral", 5e3, 1e4), ScoreSpec("speed", 1e3, 2e3)), raise_after=2, clear_after=3)
SECOND, LATER = PATH_AHEAD_S.index(1.0), PATH_AHEAD_S.index(1.5)  # the points that it steers by
TURN_PER_M = 2.0  # yaw rate for each metre that the later point is to the left


def write_follower(folder: Path, robot: Robot, key: Ed25519PrivateKey | None) -> Path:
    """The bundle in ``folder``: it asks for the speed that brings it to where the plan is in 1 s, and turns to it."""
    layout = layout_for("track", robot)
    terms = ObservationBuilder(robot, layout).specs
    sizes = [int(np.prod(term.shape)) for term in terms]
    starts = dict(zip(layout.terms, np.cumsum([0, *sizes[:-1]]).tolist(), strict=True))
    weights = np.zeros((sum(sizes), 2))
    weights[starts["path_ahead"] + 2 * SECOND, 0] = 1.0
    weights[starts["path_ahead"] + 2 * LATER + 1, 1] = TURN_PER_M
    limits = robot.limits
    low, high = [0.0, -limits.yaw_rate_radps_max], [limits.speed_mps_max, limits.yaw_rate_radps_max]
    scored = np.zeros((sum(sizes) + 2, 2))
    scored[starts["path_errors"], 0] = scored[-2, 1] = 1.0
    inputs = (*terms, type(terms[0])("command", (2,), "m/s, rad/s"))
    policy = model_bytes(dense_graph(terms, "command", weights, low, high))
    monitor = model_bytes(dense_graph(inputs, "scores", scored, [-1e9, -1e9], [1e9, 1e9]))
    card = Card.of("follower", "track", robot, layout, QUIET, Recorded())
    return write_bundle(folder, card, policy, monitor, key)
