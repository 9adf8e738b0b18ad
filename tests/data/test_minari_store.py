"""Data sets: what was written comes back exactly, Minari itself opens it, and bags stay whole in a split."""

import math
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import minari
import numpy as np
import pytest

from dsac_robot.core.navigate import NavigateParams
from dsac_robot.core.robot import Robot, load_robot
from dsac_robot.core.values import Command, Goal, Odom, Scan, ns
from dsac_robot.data.episodes import Raw
from dsac_robot.data.minari_store import (
    DatasetError,
    bag_digest,
    build_dataset,
    load_dataset,
    relabel,
    split_by_bag,
    write_dataset,
)

Written = Callable[..., Path]


@pytest.fixture(scope="module")
def robot() -> Robot:
    jackal = load_robot("jackal")
    return replace(jackal, lidar=replace(jackal.lidar, beams=72, angle_increment_rad=0.0655))


def drive(seconds: float, seed: int):
    rng = np.random.default_rng(seed)
    yield "goal_pose", Goal(1, 2.0, 0.0), 1
    for k in range(int(seconds * 20)):
        stamp = ns(0.05 * k)
        yield "odom", Odom.from_yaw(stamp, 0.05 * k / math.pi, 0.0, 0.1, 1.0 / math.pi, float(rng.normal())), stamp
        yield "cmd_vel", Command(stamp, float(rng.normal()), float(rng.normal())), stamp
        if k % 2 == 0:
            ranges = rng.uniform(0.2, 12.0, 72).astype(np.float32)
            ranges[:3] = [math.nan, math.inf, -math.inf]
            yield "policy/cmd_vel", Command(stamp, 1.0 / 3.0, 0.1), stamp
            yield "scan", Scan(stamp, ranges), stamp


def test_what_is_loaded_is_what_was_built_bit_for_bit(bag_of: Written, tmp_path: Path, robot: Robot) -> None:
    told: list[str] = []
    bags = [bag_of(drive(5.0, seed), f"bag{seed}") for seed in range(3)]
    report = build_dataset([*bags, bags[0]], robot, tmp_path / "set", progress=told.append)
    assert report.episodes.episodes == 3 and len(report.bags) == 3 and told
    assert "bag bag0 is given twice: 1" in str(report)
    dataset = load_dataset(tmp_path / "set")
    assert (dataset.robot, dataset.task, dataset.reward_version) == (robot, NavigateParams(), 1)
    assert [bag.sha256 for bag in dataset.bags] == [bag_digest(bag) for bag in bags]
    write_dataset(dataset, tmp_path / "again")
    for one, other in zip(dataset.episodes, load_dataset(tmp_path / "again").episodes, strict=True):
        assert (one.outcome, one.terminated) == (other.outcome, other.terminated)
        for name, term in one.observations.items():
            assert term.dtype == np.float32 and term.tobytes() == other.observations[name].tobytes()
        for array in ("actions", "asked", "rewards", "costs"):
            assert getattr(one, array).tobytes() == getattr(other, array).tobytes()
        for entry in fields(Raw):
            assert getattr(one.raw, entry.name).tobytes() == getattr(other.raw, entry.name).tobytes()
            assert getattr(one.raw, entry.name).dtype == getattr(other.raw, entry.name).dtype


def test_a_data_set_may_be_given_by_a_relative_path(
    bag_of: Written, tmp_path: Path, robot: Robot, monkeypatch: pytest.MonkeyPatch
) -> None:
    bag = bag_of(drive(5.0, 1), "bag").resolve()
    monkeypatch.chdir(tmp_path)
    build_dataset([bag], robot, Path("sets/mine"))
    assert len(load_dataset(Path("sets/mine")).episodes) == 1
    assert [path.name for path in Path("sets/mine").iterdir()] == ["data"]


def test_rewards_and_costs_can_be_computed_again_from_the_stored_signals(
    bag_of: Written, tmp_path: Path, robot: Robot
) -> None:
    build_dataset([bag_of(drive(4.0, 7))], robot, tmp_path / "set")
    dataset = load_dataset(tmp_path / "set")
    (episode,) = dataset.episodes
    rewards, costs = relabel(episode, dataset.robot, dataset.task)
    assert rewards.tobytes() == episode.rewards.tobytes() and costs.tobytes() == episode.costs.tobytes()
    harsher, _ = relabel(episode, dataset.robot, replace(dataset.task, time_penalty=1.0))
    np.testing.assert_allclose(episode.rewards - harsher, 0.95)


def test_minari_loads_it_by_name_with_the_cost_in_infos(
    bag_of: Written, tmp_path: Path, robot: Robot, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_dataset([bag_of(drive(5.0, 1))], robot, tmp_path / "jackal-v0")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    loaded = minari.load_dataset("jackal-v0")
    (episode,) = loaded.iterate_episodes()
    ours = load_dataset(tmp_path / "jackal-v0").episodes[0]
    steps = len(episode.rewards)
    assert loaded.total_steps == steps == len(ours)
    np.testing.assert_array_equal(episode.infos["cost"][1:], ours.costs)
    assert episode.infos["cost"].shape == (steps + 1,) and episode.infos["cost"][0] == 0.0
    assert episode.observations["scan_sectors"].shape == (steps + 1, 3, 36)
    assert loaded.observation_space["twist"].contains(episode.observations["twist"][0])
    assert bool(episode.terminations[-1]) is (ours.outcome == "success")


def test_a_split_keeps_each_bag_on_one_side(bag_of: Written, tmp_path: Path, robot: Robot) -> None:
    bags = [bag_of(drive(2.0, seed), f"bag{seed}") for seed in range(5)]
    build_dataset(bags, robot, tmp_path / "set")
    dataset = load_dataset(tmp_path / "set")
    train, held = split_by_bag(dataset, 0.3, seed=3)
    assert sorted([*train, *held]) == list(range(len(dataset.episodes))) and train and held
    owner = dataset.bag_of_episode
    assert not {owner[i] for i in train} & {owner[i] for i in held}
    assert split_by_bag(dataset, 0.3, seed=3) == (train, held)
    with pytest.raises(DatasetError, match="outside"):
        split_by_bag(dataset, 1.0, seed=3)


def test_bad_input_is_refused_with_the_next_step(bag_of: Written, tmp_path: Path, robot: Robot) -> None:
    bag = bag_of(drive(2.0, 0))
    with pytest.raises(DatasetError, match="exists already"):
        build_dataset([bag], robot, tmp_path)
    goalless = bag_of([row for row in drive(2.0, 0) if row[0] != "goal_pose"], "goalless")
    with pytest.raises(DatasetError, match=r"no goal.*goal_pose or plan"):
        build_dataset([goalless], robot, tmp_path / "set")
    assert not (tmp_path / "set").exists()
    with pytest.raises(DatasetError, match="dsac-robot dataset build"):
        load_dataset(tmp_path / "set")
    build_dataset([bag], robot, tmp_path / "set")
    with pytest.raises(DatasetError, match="at least 2"):
        split_by_bag(load_dataset(tmp_path / "set"), 0.3, seed=0)
