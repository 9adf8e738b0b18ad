"""Bags of task track: the environment's own rewards come back, and every way in which following a plan ends."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dsac_robot.apps.cli import main
from dsac_robot.core.observation import LAYOUTS, flatten
from dsac_robot.core.robot import load_robot
from dsac_robot.core.track import TrackParams
from dsac_robot.core.values import Command, Contact, Goal, Odom, Plan, Sample, Scan, ns
from dsac_robot.data.bag_reader import BagReader
from dsac_robot.data.cutting import Cutter
from dsac_robot.data.episodes import Episode, EpisodeError, EpisodeParams, recordings
from dsac_robot.data.minari_store import DatasetError, build_dataset, load_dataset, relabel
from sim.track import TrackEnv, TrackEnvParams
from tests.bundle.follower import write_follower

Written = Callable[..., Path]
Rows = list[tuple[str, Sample, int]]
TOPICS = {"scan": Scan, "odom": Odom, "cmd_vel": Command, "plan": Plan}
JACKAL = load_robot("jackal")
LAYOUT, TASK = LAYOUTS["track"], TrackParams()
LINE = np.array([[0.0, 0.0], [2.0, 0.0], [4.0, 0.0]])


def drive(seconds: float, *plans: Plan, speed: float = 0.4, left_mps: float = 0.0) -> Rows:
    """Along x from the origin, and to the left at ``left_mps``; scans see nothing near."""
    rows: Rows = [("plan", plan, plan.stamp_ns) for plan in plans]
    ranges = np.full(JACKAL.lidar.beams, 5.0, np.float32)
    for k in range(int(seconds * 50)):
        stamp = ns(0.02 * k)
        x, y = 0.02 * k * speed, 0.02 * k * left_mps
        rows += [("odom", Odom.from_yaw(stamp, x, y, 0.0, speed, 0.0), stamp)]
        rows += [("cmd_vel", Command(stamp, speed, 0.0), stamp)]
        rows += [("scan", Scan(stamp, ranges), stamp)] if k % 5 == 0 else []
    return sorted(rows, key=lambda row: row[2])


def note(env: TrackEnv, from_ns: int, to_ns: int, seen: dict[tuple[str, int], Sample]) -> None:
    """Add what was newest at each 20 ms, at which odometry, commands and ticks fall."""
    for stamp in range(from_ns, to_ns + 1, ns(0.02)):
        for topic, kind in TOPICS.items():
            sample = env.history.newest(kind, stamp)
            seen[(topic, sample.stamp_ns)] = sample


def cut(bag: Path, params: EpisodeParams = EpisodeParams()) -> tuple[list[Episode], Cutter]:
    cutter = Cutter(JACKAL, LAYOUT, TASK, params)
    with BagReader(bag, plan_speed_mps=params.plan_speed_mps) as reader:
        return [episode for part in recordings(reader.values()) for episode in cutter.episodes(part)], cutter


def test_a_drive_of_the_environment_comes_back_from_its_bag_with_the_environments_own_numbers(
    bag_of: Written, tmp_path: Path
) -> None:
    env = TrackEnv(JACKAL, params=TrackEnvParams(forward_only=True, time_limit_s=6.0))
    observation, _ = env.reset(seed=4)
    rng, seen = np.random.default_rng(0), dict[tuple[str, int], Sample]()
    observations, rewards, costs, ended = [observation], [], [], False
    note(env, 0, ns(0.2), seen)
    while not ended:
        action = env.actions.to_action(rng.normal((0.4, 0.0), (0.2, 0.3))).astype(np.float32)
        observation, reward, terminated, truncated, info = env.step(action)
        ended = terminated or truncated
        tick_ns = ns(0.2) + len(observations) * ns(0.1)
        note(env, tick_ns - ns(0.1), tick_ns, seen)
        observations.append(observation)
        rewards.append(reward)
        costs.append(info["cost"])
    # a header's stamp of 0 would mean the time of logging
    rows: Rows = [(topic, replace(s, stamp_ns=1) if topic == "plan" else s, at) for (topic, at), s in seen.items()]
    (episode,), _ = cut(bag_of(sorted(rows, key=lambda row: row[2])))
    assert len(episode) == len(rewards) > 50 and episode.plan is not None
    assert episode.plan.speed_mps == pytest.approx(env.world.route.speed_mps, rel=1e-6)
    np.testing.assert_allclose(episode.rewards, rewards, atol=1e-5)
    np.testing.assert_array_equal(episode.costs, costs)
    for index, expected in enumerate(observations):
        built = flatten({name: term[index] for name, term in episode.observations.items()})
        np.testing.assert_allclose(built, expected, atol=1e-5)


def test_the_plans_end_is_a_success_that_terminates_nothing_and_standing_there_starts_nothing(bag_of: Written) -> None:
    (episode,), cutter = cut(bag_of(drive(11.0, Plan(1, LINE, 0.4))))
    assert (episode.outcome, episode.terminated) == ("success", False)
    assert 4.0 - episode.raw.odom[-1, 0] == pytest.approx(0.5, abs=0.05)
    assert cutter.report.unusable["at the plan's end"] > 10


def test_leaving_the_path_terminates_and_pays_the_end_penalty(bag_of: Written) -> None:
    (episode, *_), _ = cut(bag_of(drive(6.0, Plan(1, LINE, 0.4), left_mps=0.8)))
    assert (episode.outcome, episode.terminated) == ("off_path", True)
    assert episode.rewards[-1] < -TASK.end_penalty < episode.rewards[-2]


def test_a_contact_terminates(bag_of: Written) -> None:
    rows = [*drive(4.0, Plan(1, LINE, 0.4)), ("contact", Contact(ns(2.03), True), ns(2.03))]
    (episode,), _ = cut(bag_of(sorted(rows, key=lambda row: row[2])))
    assert (episode.outcome, episode.terminated, episode.costs[-1]) == ("contact", True, 1.0)


def test_another_plan_begins_a_new_segment_and_the_same_again_or_a_goal_does_not(bag_of: Written) -> None:
    same, goal = Plan(ns(1.0), LINE, 0.4), ("goal_pose", Goal(ns(1.5), 9.0, 9.0), ns(1.5))
    rows = sorted([*drive(4.0, Plan(1, LINE, 0.4), same), goal], key=lambda row: row[2])
    (whole,), _ = cut(bag_of(rows, "whole"))
    assert whole.outcome == "end of bag"
    first, second = cut(bag_of(drive(4.0, Plan(1, LINE, 0.4), Plan(ns(2.03), LINE, 0.3)), "two"))[0]
    assert (first.outcome, first.terminated) == ("plan changed", False)
    assert first.plan is not None and second.plan is not None
    assert first.plan.speed_mps == pytest.approx(0.4) and second.plan.speed_mps == pytest.approx(0.3)
    np.testing.assert_allclose(second.observations["path_errors"][0], [0.0, 0.0, 0.1], atol=1e-6)


def test_poses_that_are_no_schedule_are_followed_at_the_given_speed(bag_of: Written) -> None:
    unscheduled = Plan(1, np.array([[0.0, 0.0], [1e-10, 0.0], [4.0, 0.0]]), 1.0)  # two poses stamped alike
    (episode,), _ = cut(bag_of(drive(3.0, unscheduled)), EpisodeParams(plan_speed_mps=0.25))
    assert episode.plan is not None and episode.plan.speed_mps == 0.25


def test_plans_are_stored_with_the_data_set_and_rewards_can_be_computed_again(bag_of: Written, tmp_path: Path) -> None:
    bag = bag_of(drive(6.0, Plan(1, LINE, 0.4), Plan(ns(2.0), LINE, 0.3), Plan(ns(4.0), LINE + 0.1, 0.3)))
    report = build_dataset([bag], JACKAL, tmp_path / "set", layout=LAYOUT, task=TASK)
    dataset = load_dataset(tmp_path / "set")
    assert (report.episodes.episodes, dataset.task, dataset.task_name) == (3, TASK, "track")
    assert [round(e.plan.speed_mps, 6) for e in dataset.episodes if e.plan is not None] == [0.4, 0.3, 0.3]
    for episode in dataset.episodes:
        rewards, costs = relabel(episode, JACKAL, dataset.task)
        assert rewards.tobytes() == episode.rewards.tobytes() and costs.tobytes() == episode.costs.tobytes()
    heavier, _ = relabel(dataset.episodes[1], JACKAL, replace(TASK, speed_weight=32.0))
    np.testing.assert_allclose(heavier - dataset.episodes[1].rewards, -16.0 * 0.01, atol=1e-6)  # 0.1 m/s too fast
    with pytest.raises(EpisodeError, match="no plan"):
        relabel(replace(dataset.episodes[0], plan=None), JACKAL, dataset.task)


def test_the_command_takes_the_task_from_its_option_or_from_the_bundle(
    bag_of: Written, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = str(bag_of(drive(4.0, Plan(1, LINE, 0.4))))
    common = ["dataset", "build", bag, "--robot", "jackal"]
    assert main([*common, "--task", "track", "--out", str(tmp_path / "asked")]) == 0
    bundle = str(write_follower(tmp_path / "follower", JACKAL, None))
    assert main([*common, "--bundle", bundle, "--out", str(tmp_path / "followed")]) == 0
    one, other = load_dataset(tmp_path / "asked"), load_dataset(tmp_path / "followed")
    assert one.task_name == other.task_name == "track" and other.layout.terms[1:] == LAYOUT.terms[1:]
    assert main(["dataset", "show", str(tmp_path / "asked")]) == 0
    assert "task track" in capsys.readouterr().out
    assert main([*common, "--bundle", bundle, "--task", "navigate", "--out", str(tmp_path / "no")]) == 2
    assert "is of track" in capsys.readouterr().err


def test_a_bag_without_a_plan_is_refused_for_the_task(bag_of: Written, tmp_path: Path) -> None:
    rows = sorted([*drive(2.0), ("goal_pose", Goal(1, 9.0, 0.0), 1)], key=lambda row: row[2])
    with pytest.raises(DatasetError, match=r"no plan.*cmd_vel and a plan"):
        build_dataset([bag_of(rows)], JACKAL, tmp_path / "set", layout=LAYOUT, task=TASK)
