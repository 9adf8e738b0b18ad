"""A bundle of task track on the real graph: it follows a plan that somebody publishes, behind the guard."""

from pathlib import Path

import numpy as np
import pytest
from rclpy.context import Context

from dsac_robot.core.path import path_errors
from dsac_robot.core.robot import Robot
from dsac_robot.core.values import Plan
from dsac_robot.nodes import topics
from dsac_robot.nodes.compose import compose
from dsac_robot.nodes.converters import plan_to_message
from dsac_robot.nodes.ood_monitor import MonitorNode
from dsac_robot.nodes.policy import PolicyNode
from dsac_robot.nodes.run import spin_while
from dsac_robot.nodes.safety_guard import GuardNode
from sim.ros_bridge import SimBridge
from tests.bundle.follower import write_follower
from tests.loop.conftest import Signer
from tests.loop.graph import Listener

PLAN_M = np.array([[0.0, 0.0], [1.0, 0.0], [1.6, 0.3], [2.2, 0.9], [2.6, 1.6]])
SPEED_MPS = 0.6


@pytest.mark.slow
def test_a_published_plan_is_followed_to_its_end_at_its_speed(
    context: Context, robot: Robot, signer: Signer, tmp_path: Path
) -> None:
    learned = {**signer.parameters(write_follower(tmp_path / "follower", robot, signer.key)), "use_sim_time": True}
    given = {
        "sim_bridge": {"world": "empty", "goal_from_world": False},
        "safety_guard": {"use_sim_time": True},
        "policy": learned,
        "ood_monitor": learned,
    }
    composition = compose([SimBridge, GuardNode, MonitorNode, PolicyNode], parameters=given, context=context)
    listener = Listener(context)
    composition.executor.add_node(listener.node)
    try:
        composition.bring_up()
        publisher = listener.node.create_publisher(topics.PLAN.type, topics.PLAN.name, topics.PLAN.qos)
        publisher.publish(plan_to_message(Plan(composition.nodes["sim_bridge"].simulated_ns, PLAN_M, SPEED_MPS)))

        def going() -> bool:
            rested = len(listener.truth) > 200 and abs(listener.speed_mps) < 0.02 and listener.truth[-1].x_m > 1.5
            return not (rested or len(listener.truth) > 1500)  # 15 s of simulated time

        spin_while(composition.executor, going, context)
    finally:
        composition.executor.remove_node(listener.node)
        composition.close()
        listener.node.destroy_node()
    plan = Plan(0, PLAN_M, SPEED_MPS)
    assert max(abs(path_errors(pose, plan).lateral_m) for pose in listener.truth) < 0.25
    on_the_way = [pose.speed_mps for pose in listener.truth if 0.8 < pose.x_m < 1.5]
    assert np.median(on_the_way) == pytest.approx(SPEED_MPS, abs=0.1)
    end = listener.truth[-1]
    assert np.hypot(end.x_m - PLAN_M[-1, 0], end.y_m - PLAN_M[-1, 1]) < 0.7  # tolerance 0.5 m along the way
    assert abs(end.speed_mps) < 0.02 and not any(contact.touching for contact in listener.contacts)
