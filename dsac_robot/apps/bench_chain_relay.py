"""The bare chain that ``bench chain`` holds the stack against: rclpy nodes with the stack's hops and messages, which
decide nothing. Run as a process: ``python -m dsac_robot.apps.bench_chain_relay NAMESPACE ROLE…``."""

from __future__ import annotations

import os
import sys
from typing import Any

ROLES = ("policy", "ood_monitor", "safety_guard")
PERIOD_S = 0.02  # the guard's
PARENT = os.getppid()


def make_nodes(namespace: str, roles: list[str], context: Any = None) -> list[Any]:
    """The relays of these roles."""
    from rclpy.clock import Clock, ClockType
    from rclpy.node import Node

    from dsac_robot.core.guard_types import Decision, Verdict
    from dsac_robot.core.reasons import Level, OodLevel, Reason
    from dsac_robot.core.values import Command
    from dsac_robot.nodes import topics
    from dsac_robot.nodes.converters import command_to_message, stamp_from_message, stamp_to_message
    from dsac_robot.nodes.states import SafetyState, decision_to_message, verdict_to_message

    def node_of(role: str) -> Any:
        node = Node(role, namespace=namespace, context=context)

        def publisher(topic: topics.Topic) -> Any:
            return node.create_publisher(topic.type, topic.name, topic.qos)

        def listen(topic: topics.Topic, take: Any) -> None:
            node.create_subscription(topic.type, topic.name, take, topic.qos)

        listen(topics.ODOM, lambda message: None)
        if role == "policy":
            out = publisher(topics.POLICY_CMD_VEL)
            said = command_to_message(Command(0, 1.0, 0.1), "base_link")

            def relay(message: Any) -> None:
                said.header.stamp = message.header.stamp
                out.publish(said)

            listen(topics.SCAN, relay)
        elif role == "ood_monitor":
            listen(topics.SCAN, lambda message: None)
            out = publisher(topics.OOD_STATE)
            verdict = verdict_to_message(Verdict(1, 1_790_000_000_000_000_000, OodLevel.OK, Reason.NONE, 1.1, 2.2, 3.3))

            def judge(message: Any) -> None:
                verdict.header.stamp = message.header.stamp
                out.publish(verdict)

            listen(topics.POLICY_CMD_VEL, judge)
        else:
            newest = [0]
            listen(topics.SCAN, lambda message: None)
            listen(topics.POLICY_CMD_VEL, lambda m: newest.__setitem__(0, stamp_from_message(m.header.stamp)))
            listen(topics.OOD_STATE, lambda message: None)
            command, state = publisher(topics.CMD_VEL), publisher(topics.SAFETY_STATE)
            sent = command_to_message(Command(0, 1.0, 0.1), "base_link")
            numbers = (("clearance_m", 0.1234567890123), ("stop_distance_m", 0.5678901234567))
            decision = Decision(1.0, 0.1, Level.DRIVE, Reason.NONE, numbers)

            def step() -> None:
                now_ns = int(node.get_clock().now().nanoseconds)
                sent.header.stamp = stamp_to_message(now_ns)
                command.publish(sent)
                state.publish(decision_to_message(SafetyState(now_ns, newest[0], decision)))

            node.create_timer(PERIOD_S, step, clock=Clock(clock_type=ClockType.STEADY_TIME))
        return node

    return [node_of(role) for role in roles]


def main(arguments: list[str]) -> int:
    """Spin the relays until the parent ends, or SIGINT."""
    import rclpy

    from dsac_robot.nodes.run import StopSignals, init, make_executor, spin_while

    with StopSignals() as signals:
        init([])
        executor = make_executor()
        for node in make_nodes(arguments[0], arguments[1:]):
            executor.add_node(node)
        spin_while(executor, lambda: signals.received is None and os.getppid() == PARENT)
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
