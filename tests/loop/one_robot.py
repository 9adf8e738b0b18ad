"""All nodes of one simulated robot in one process and namespace, as ``dsac-robot up --sim`` composes them.

Each simulated robot has a clock of its own: /clock is remapped into the namespace. (Real robots share real time.)

    python -m tests.loop.one_robot NAMESPACE BUNDLE TRUSTED_KEYS
"""

import sys

from dsac_robot.core.files import share_path
from dsac_robot.nodes.compose import compose
from dsac_robot.nodes.ood_monitor import MonitorNode
from dsac_robot.nodes.policy import PolicyNode
from dsac_robot.nodes.run import StopSignals, init
from dsac_robot.nodes.safety_guard import GuardNode
from sim.ros_bridge import SimBridge

namespace, bundle, keys = sys.argv[1:]
learned = {"use_sim_time": True, "bundle": bundle, "trusted_keys": keys}
parameters = {
    "sim_bridge": {"world": "empty", "real_time_factor": 0.5},
    "safety_guard": {"use_sim_time": True},
    "ood_monitor": learned,
    "policy": learned,
}
profile = share_path("config", "safety_guard_static.yaml")
with StopSignals() as signals:
    init([])
    composition = compose(
        [SimBridge, GuardNode, MonitorNode, PolicyNode], [profile], namespace, ["/clock:=clock"], parameters
    )
    composition.bring_up(lambda: signals.received is None)
    composition.spin(lambda: signals.received is None)
    composition.close()
