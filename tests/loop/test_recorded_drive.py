"""Drives of the environment, recorded from ROS by the recorder, come back from the bag as the environment's own log."""

import time
from pathlib import Path

import numpy as np
import pytest
from rclpy.context import Context
from rclpy.node import Node
from rclpy.serialization import serialize_message
from rosgraph_msgs.msg import Clock

from dsac_robot.core.observation import flatten
from dsac_robot.core.robot import Robot
from dsac_robot.core.values import Command, Contact, Goal, Odom, Sample, Scan, ns
from dsac_robot.data.episodes import Episode, EpisodeParams
from dsac_robot.data.minari_store import Dataset, build_dataset, load_dataset
from dsac_robot.nodes import topics
from dsac_robot.nodes.compose import Composition, compose
from dsac_robot.nodes.converters import (
    command_to_message,
    contact_to_message,
    goal_to_message,
    odom_to_message,
    scan_to_message,
    stamp_to_message,
)
from dsac_robot.nodes.recorder import Recorder
from dsac_robot.nodes.run import init
from sim.navigate import NavigateEnv, NavigateEnvParams
from sim.worlds import empty_world
from tests.loop.drives import Drive, drive_env

APART_NS = ns(3.0)  # of silence between two drives
PATIENCE_S = 60.0  # of the wall clock; nothing is asserted about it
LAST = Command(ns(1000.0), 0.125, -0.0625)  # on teleop/cmd_vel, after everything else


class Publisher:
    """Publishes samples on their topics, each at its own time on /clock."""

    def __init__(self, context: Context, composition: Composition, robot: Robot) -> None:
        self.node, self.executor, self._robot = Node("player", context=context), composition.executor, robot
        table = (topics.SCAN, topics.ODOM, topics.GOAL_POSE, topics.CONTACT, topics.CMD_VEL, topics.POLICY_CMD_VEL)
        table = (*table, topics.TELEOP_CMD_VEL, topics.CLOCK)
        self._publishers = {t.name: self.node.create_publisher(t.type, t.name, t.qos) for t in table}
        self.executor.add_node(self.node)
        self.until(lambda: all(p.get_subscription_count() for p in self._publishers.values()), "the recorder listens")

    def until(self, done, what: str) -> None:
        end = time.monotonic() + PATIENCE_S
        while not done():
            assert time.monotonic() < end, f"never: {what}"
            self.executor.spin_once(timeout_sec=0.02)

    def publish(self, topic: topics.Topic, message) -> None:
        self._publishers[topic.name].publish(message)
        for _ in range(4):  # let the recorder write as it comes
            self.executor.spin_once(timeout_sec=0.0)

    def play(self, sample: Sample) -> None:
        self.publish(topics.CLOCK, Clock(clock=stamp_to_message(sample.stamp_ns)))
        if isinstance(sample, Scan):
            self.publish(topics.SCAN, scan_to_message(sample, self._robot.lidar))
        elif isinstance(sample, Odom):
            self.publish(topics.ODOM, odom_to_message(sample))
        elif isinstance(sample, Command):
            self.publish(topics.CMD_VEL, command_to_message(sample))
        elif isinstance(sample, Goal):
            self.publish(topics.GOAL_POSE, goal_to_message(sample))
        elif isinstance(sample, Contact):
            self.publish(topics.CONTACT, contact_to_message(sample))


@pytest.fixture(scope="module")
def drives(robot: Robot) -> list[Drive]:
    """One that reaches its goal, one that hits something, one that is cut off by its time limit."""
    near = NavigateEnv(robot, worlds=lambda seed: empty_world(goal_m=(3.0, 0.0)))
    blind = NavigateEnv(robot)
    short = NavigateEnv(robot, params=NavigateEnvParams(time_limit_s=1.5))
    made = [drive_env(near, 1, 100), drive_env(blind, 3, 200, gain=0.0, noise=0.0), drive_env(short, 5, 100)]
    assert [drive.outcome for drive in made] == ["success", "contact", "timeout"]
    return made


def record(drives: list[Drive], context: Context, robot: Robot, out: Path, asked: bool) -> Path:
    """The bag of all drives, one after the other; with ``asked`` the policy's own commands are in it."""
    given = {"recorder": {"out": str(out), "bag": "bag", "use_sim_time": True}}
    composition = compose([Recorder], parameters=given, context=context)
    composition.bring_up(needs_sensors=())
    player, offset_ns = Publisher(context, composition, robot), ns(5.0)
    for drive in drives:
        player.play(Contact(offset_ns, False))
        asked_at = {command.stamp_ns + offset_ns: command for command in drive.asked}
        for sample in drive.later(offset_ns):
            player.play(sample)
            if asked and isinstance(sample, Scan) and sample.stamp_ns in asked_at:
                wish = asked_at[sample.stamp_ns]
                message = command_to_message(Command(sample.stamp_ns, wish.speed_mps, wish.yaw_rate_radps))
                player.publish(topics.POLICY_CMD_VEL, message)
        offset_ns += drive.ticks_ns[-1] + APART_NS
    last = command_to_message(LAST)
    player.publish(topics.TELEOP_CMD_VEL, last)
    mark = serialize_message(last)[4:12]  # its stamp
    bag = out / "bag"
    player.until(lambda: any(mark in f.read_bytes() for f in bag.glob("*.mcap")), "the last message is in the bag")
    composition.executor.remove_node(player.node)
    player.node.destroy_node()
    composition.close()
    return bag


@pytest.fixture(scope="module", params=["policy", "scan"], ids=["policy's ticks", "scan ticks"])
def dataset(
    request: pytest.FixtureRequest, drives: list[Drive], robot: Robot, tmp_path_factory: pytest.TempPathFactory
) -> Dataset:
    folder, context = tmp_path_factory.mktemp("drive"), Context()
    init([], context)
    bag = record(drives, context, robot, folder, asked=request.param == "policy")
    context.try_shutdown()
    build_dataset([bag], robot, folder / "drives-v0", params=EpisodeParams())
    return load_dataset(folder / "drives-v0")


def pairs(dataset: Dataset, drives: list[Drive]) -> list[tuple[Episode, Drive]]:
    assert len(dataset.episodes) == len(drives)
    return list(zip(dataset.episodes, drives, strict=True))


def test_each_drive_comes_back_as_one_episode_with_its_ending(dataset: Dataset, drives: list[Drive]) -> None:
    for episode, drive in pairs(dataset, drives):
        assert len(episode) == len(drive.rewards)
        assert (episode.outcome in ("success", "contact")) == episode.terminated == (drive.outcome != "timeout")
        if episode.terminated:
            assert episode.outcome == drive.outcome


def test_observations_are_those_of_the_environment(dataset: Dataset, drives: list[Drive]) -> None:
    for episode, drive in pairs(dataset, drives):
        for tick, seen in enumerate(drive.observations):
            built = flatten({name: term[tick] for name, term in episode.observations.items()})
            np.testing.assert_allclose(built, seen, rtol=0.0, atol=1e-6)


def test_actions_are_exactly_the_commands_that_were_sent(dataset: Dataset, drives: list[Drive]) -> None:
    for episode, drive in pairs(dataset, drives):
        assert episode.actions.tolist() == [[a.speed_mps, a.yaw_rate_radps] for a in drive.actions]
        offset_ns = int(episode.raw.stamps_ns[0]) - drive.ticks_ns[0]
        assert (episode.raw.sent_stamps_ns[1:] - offset_ns).tolist() == [a.stamp_ns for a in drive.actions]


def test_rewards_and_costs_are_exactly_those_of_the_environment(dataset: Dataset, drives: list[Drive]) -> None:
    for episode, drive in pairs(dataset, drives):
        assert episode.rewards.tolist() == drive.rewards
        assert episode.costs.tolist() == drive.costs
    assert sum(episode.costs.sum() for episode in dataset.episodes) > 0.0


def test_what_the_policy_asked_is_kept_beside_what_was_sent(dataset: Dataset, drives: list[Drive]) -> None:
    for episode, drive in pairs(dataset, drives):
        asked = np.array([[a.speed_mps, a.yaw_rate_radps] for a in drive.asked])
        assert np.isnan(episode.asked).all() or np.array_equal(episode.asked, asked)
