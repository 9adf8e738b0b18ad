"""Peers of the learned policy: on lidar, odometry and goal alone they get there, touch nothing, repeat themselves."""

import numpy as np
import pytest

from dsac_robot.apps.closed_loop import Drive, LoopParams, drive
from dsac_robot.core.params import ParameterError
from dsac_robot.core.robot import load_robot
from sim.peers import PEERS, make_peer
from sim.worlds import World

ROBOT = load_robot("jackal")
WALL = [(3.0, y, 0.075) for y in np.arange(-3.0, 3.01, 0.15) if abs(y - 0.8) > 0.6]


def driven(name: str, cylinders: list[tuple[float, float, float]], seed: int = 0) -> Drive:
    world = World("test", np.array(cylinders), (0.0, 0.0, 0.0), (6.0, 0.0), 6.0)
    return drive(ROBOT, world, seed, make_peer(name, ROBOT), None, None, LoopParams(time_limit_s=30.0))


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_drives_through_a_gap_beside_the_straight_line(name: str) -> None:
    done = driven(name, WALL)
    assert (done.outcome, done.caused) == ("success", False)
    assert done.path_m > 5.0


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_repeats_itself(name: str) -> None:
    post = [(2.5, 0.1, 0.2)]
    assert np.array_equal(driven(name, post, 3).trace, driven(name, post, 3).trace)


def test_an_unknown_peer_is_refused_with_those_there_are() -> None:
    with pytest.raises(ParameterError, match="dwa, mppi, pursuit"):
        make_peer("teb", ROBOT)
