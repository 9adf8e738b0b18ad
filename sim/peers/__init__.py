"""Peers of the learned policy: classical controllers on the same lidar, odometry and goal, in the same physics."""

from dsac_robot.core.params import ParameterError
from dsac_robot.core.robot import Robot
from sim.peers.dwa import Dwa
from sim.peers.mppi import Mppi
from sim.peers.peer import Peer
from sim.peers.pursuit import Pursuit

PEERS = {"dwa": Dwa, "mppi": Mppi, "pursuit": Pursuit}


def make_peer(name: str, robot: Robot) -> Peer:
    """The peer of that name with its default parameters. Raises ParameterError naming the peers there are."""
    if name not in PEERS:
        raise ParameterError(f"--policy {name!r} is unknown; give bundle or one of {', '.join(PEERS)}")
    return Peer(robot, PEERS[name]())
