"""Behaviour cloning on data sets of a known expert, and `dsac-robot offline train` from data set to bundle."""

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dsac_robot.apps import bundling, offline_cmd
from dsac_robot.apps.cli import main
from dsac_robot.bundle.card import Recorded
from dsac_robot.bundle.deployed import DeployedMonitor, DeployedPolicy, load_bundle
from dsac_robot.core.action import ActionMap
from dsac_robot.core.navigate import VERSION, NavigateParams
from dsac_robot.core.observation import ObservationLayout
from dsac_robot.core.params import ParameterError
from dsac_robot.core.robot import Robot, load_robot
from dsac_robot.core.values import Command, Floats, Goal, Odom, Scan, ns
from dsac_robot.data.episodes import Episode, Raw
from dsac_robot.data.minari_store import BagSource, Dataset, DatasetError, write_dataset
from dsac_robot.learn import cloning
from dsac_robot.learn.cloning import CloningConfig

ROBOT = load_robot("jackal")
ACTIONS = ActionMap.of(ROBOT.limits)
SMALL = CloningConfig(hidden=(32, 32), learning_rate=3e-3, batch=128, updates=600, validate_every=50)
WEIGHTS = np.array([[0.3, -0.1], [0.0, 0.35], [0.1, 0.2]])  # of twist (v, w) and the goal's bearing


def expert(twist: Floats, goal: Floats) -> Floats:
    """Commands linear in the twist and the sine of the goal's bearing, inside the limits. # (T, 2), (T, 2) -> (T, 2)"""
    sine = goal[:, 1:] / np.linalg.norm(goal, axis=1, keepdims=True)
    return ACTIONS.to_command(np.concatenate([twist, sine], axis=1) @ WEIGHTS)


def episode(seed: int, steps: int = 40, costs: Sequence[float] = (), sign: float = 1.0) -> Episode:
    """An episode of random states in which the expert was obeyed; with ``sign`` -1 its mirror image was."""
    rng = np.random.default_rng(seed)
    twist = rng.uniform((-0.5, -2.0), (2.0, 2.0), (steps + 1, 2))
    goal = rng.uniform(-8.0, 8.0, (steps + 1, 2))
    ranges = rng.uniform(0.1, 10.0, (steps + 1, 3, 36))
    sent = rng.uniform((-0.5, -2.0), (2.0, 2.0), (steps + 1, 2))
    actions = ACTIONS.to_command(sign * ACTIONS.to_action(expert(twist, goal)[:-1]))
    stamps = (np.arange(steps + 1) * ns(0.1)).astype(np.int64)
    zeros = np.zeros(steps + 1, np.int64)
    terms = {"scan_sectors": ranges, "goal_in_base": goal, "twist": twist, "last_command": sent}
    raw = Raw(
        stamps,
        np.zeros((steps + 1, 6)),
        stamps,
        sent,
        stamps,
        goal,
        stamps,
        np.ones((steps + 1, 4), np.float32),
        zeros == 1,
        zeros,
        zeros,
        zeros,
    )
    cost = np.zeros(steps)
    cost[: len(costs)] = costs
    return Episode(
        {name: term.astype(np.float32) for name, term in reversed(terms.items())},  # another order than the layout's
        actions,
        np.full((steps, 2), np.nan),
        np.zeros(steps),
        cost,
        False,
        "end of bag",
        raw,
    )


def dataset(episodes: Sequence[Episode], bags: Sequence[str], robot: Robot = ROBOT) -> Dataset:
    sources = tuple(BagSource(name, name * 2, 1, 1) for name in sorted(set(bags)))
    owners = tuple(name * 2 for name in bags)
    return Dataset("drives-v0", robot, ObservationLayout(), NavigateParams(), VERSION, sources, tuple(episodes), owners)


@pytest.fixture(scope="module")
def drives() -> Dataset:
    """Twenty safe drives of the expert and ten unsafe ones of its mirror image, in five bags."""
    safe = [episode(seed) for seed in range(20)]
    unsafe = [episode(100 + seed, costs=[0.0, 1.0, 1.0], sign=-1.0) for seed in range(10)]
    return dataset([*safe, *unsafe], [f"bag{i % 5}" for i in range(30)])


@pytest.fixture(scope="module")
def stored(drives: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("data") / "drives-v0"
    write_dataset(drives, out)
    return out


def learn(
    data: Dataset, numbers: Sequence[int], config: CloningConfig = SMALL
) -> tuple[cloning.Split, torch.nn.Module]:
    parts = cloning.split(data, numbers, config, calibration_min=10**6)
    actor = cloning.make_actor(ROBOT, data.layout, config)
    train, validation = cloning.examples(data, parts.train), cloning.examples(data, parts.validation)
    cloning.clone(actor, train, validation, config, lambda look: None)
    return parts, actor


def error_on_new_states(actor: torch.nn.Module) -> Floats:
    """Mean absolute error against the expert where nobody drove before: speed, yaw rate."""
    fresh = dataset([episode(1000 + seed) for seed in range(5)], ["new"] * 5)
    data = cloning.examples(fresh, range(5))
    return cloning.errors(cloning.commands_of(actor, ACTIONS, data.observations), data, ACTIONS)


def test_cloning_recovers_a_simple_expert_and_safe_cloning_is_not_misled_by_unsafe_drives(drives: Dataset) -> None:
    safe = cloning.safe_episodes(drives, 0.0)
    assert safe == tuple(range(20))
    _, good = learn(drives, safe)
    _, misled = learn(drives, range(30))
    data = cloning.examples(drives, range(20))
    spread = np.abs(ACTIONS.to_command(data.actions) - ACTIONS.to_command(np.median(data.actions, axis=0))).mean(axis=0)
    assert (error_on_new_states(good) < 0.25 * spread).all()
    assert (error_on_new_states(misled) > 1.5 * error_on_new_states(good)).all()


def test_the_limit_is_on_an_episodes_total_cost() -> None:
    made = dataset([episode(0, costs=[1.0] * k) for k in (3, 0, 5, 2)], ["a"] * 4)
    assert cloning.safe_episodes(made, 2.0) == (1, 3)
    assert cloning.safe_episodes(made, 1.9) == (1,)
    with pytest.raises(DatasetError, match=r"none of 1 episodes has a total cost of at most 4; the least is 5.*limit"):
        cloning.safe_episodes(replace(made, episodes=made.episodes[2:3], bag_of_episode=("aa",)), 4.0)


def test_bags_stay_whole_and_calibration_is_taken_only_where_it_is_large_enough(drives: Dataset) -> None:
    parts = cloning.split(drives, range(30), SMALL, calibration_min=6)
    assert sorted([*parts.train, *parts.validation, *parts.calibration]) == list(range(30))
    assert len(parts.validation) == 6 and len(parts.calibration) >= 6
    owners = [{drives.bag_of_episode[i] for i in part} for part in (parts.train, parts.validation, parts.calibration)]
    assert sum(map(len, owners)) == len(set.union(*owners)) == 5
    assert cloning.split(drives, range(30), SMALL, calibration_min=6) == parts
    assert cloning.split(drives, range(30), SMALL, calibration_min=200).calibration == ()
    one_bag = cloning.split(drives, (0, 5, 10, 15), SMALL, calibration_min=200)
    assert len(one_bag.validation) == 1 and len(one_bag.train) == 3
    with pytest.raises(DatasetError, match="1 episode to learn from, at least 2 are needed"):
        cloning.split(drives, (3,), SMALL, calibration_min=200)


def test_observations_follow_the_layout_and_actions_beyond_the_limits_count_as_the_limit(drives: Dataset) -> None:
    first = drives.episodes[0]
    rows = cloning.observations_of(drives, 0)
    assert rows.shape == (40, 114) and rows.dtype == np.float32
    np.testing.assert_array_equal(rows[:, :108], first.observations["scan_sectors"][:-1].reshape(40, 108))
    np.testing.assert_array_equal(rows[:, 110:112], first.observations["twist"][:-1])
    fast = dataset([replace(first, actions=first.actions * 0.0 + [9.0, -9.0])], ["a"])
    np.testing.assert_array_equal(cloning.examples(fast, [0]).actions, np.tile([1.0, -1.0], (40, 1)))
    repeated = cloning.repeat_error(cloning.examples(drives, [0]), ROBOT, drives.layout)
    by_hand = np.abs(first.observations["last_command"][:-1] - first.actions).mean(axis=0)
    np.testing.assert_allclose(repeated, by_hand, rtol=1e-5)


def test_training_stops_early_keeps_the_best_weights_and_is_reproducible(drives: Dataset) -> None:
    noisy = [
        replace(drives.episodes[i], actions=ACTIONS.to_command(np.random.default_rng(i).uniform(-1, 1, (40, 2))))
        for i in range(10)
    ]  # nothing to learn: the held-out loss soon rises
    data = dataset(noisy, [f"bag{i % 5}" for i in range(10)])
    config = replace(SMALL, updates=5000, patience=3, validate_every=20)
    parts = cloning.split(data, range(10), config, calibration_min=200)
    train, validation = cloning.examples(data, parts.train), cloning.examples(data, parts.validation)
    runs = []
    for _ in range(2):
        actor, told = cloning.make_actor(ROBOT, data.layout, config), []
        curve = cloning.clone(actor, train, validation, config, told.append)
        assert told == curve
        runs.append((actor, curve))
    curve = runs[0][1]
    assert curve[0].update == 0 and curve[-1].update < 2000 and not any(look.best for look in curve[-3:])
    best = min(curve, key=lambda look: look.validation_loss)
    assert best.best
    with torch.no_grad():
        mode = runs[0][0].mode(torch.from_numpy(validation.observations))
        again = torch.nn.functional.huber_loss(mode, torch.from_numpy(validation.actions), delta=config.huber_delta)
    assert again.item() == pytest.approx(best.validation_loss, rel=1e-6)
    for one, other in zip(runs[0][0].parameters(), runs[1][0].parameters(), strict=True):
        assert torch.equal(one, other)


def test_data_that_cannot_serve_are_refused_by_name(drives: Dataset) -> None:
    few = cloning.examples(drives, [0])
    actor = cloning.make_actor(ROBOT, drives.layout, SMALL)
    with pytest.raises(DatasetError, match="40 steps to learn from are fewer than one batch of 128"):
        cloning.clone(actor, few, few, SMALL, lambda look: None)
    first = drives.episodes[0]
    lacking = {name: term for name, term in first.observations.items() if name != "twist"}
    other = first.observations | {"scan_sectors": np.zeros((41, 3, 12), np.float32)}
    blank = first.observations | {"goal_in_base": np.full((41, 2), np.nan, np.float32)}
    for observations, message in (
        (lacking, "twist is missing"),
        (other, r"scan_sectors is of shape \(41, 3, 12\), not \(41, 3, 36\)"),
        (blank, "goal_in_base is not finite"),
    ):
        with pytest.raises(DatasetError, match=message):
            cloning.observations_of(dataset([replace(first, observations=observations)], ["a"]), 0)


def test_with_episodes_enough_the_monitor_is_calibrated_on_held_out_ones() -> None:
    data = dataset([episode(seed, steps=3) for seed in range(900)], [f"bag{i % 15}" for i in range(900)])
    parts = cloning.split(data, range(900), SMALL, bundling.CALIBRATION_EPISODES_MIN)
    actor = cloning.make_actor(ROBOT, data.layout, SMALL)
    trained = bundling.Trained("test", actor, ROBOT, data.layout, Recorded())
    _, spec = offline_cmd.watched(trained, data, parts)
    assert spec.episodes == len(parts.calibration) >= 200 and spec.alpha_alarm == 0.01
    assert "calibrated on the maxima of" in offline_cmd.monitor_rule(parts)


def test_the_command_makes_a_signed_bundle_that_the_robot_loads(
    stored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "keys").mkdir()
    assert main(["keys", "new", "--out", str(tmp_path / "keys" / "mine.key")]) == 0
    words = ["--method", "bc_safe", "--dataset", str(stored), "--robot", "jackal", "--updates", "60", "--seed", "4"]
    out = tmp_path / "safe"
    assert main(["offline", "train", *words, "--out", str(out), "--key", str(tmp_path / "keys" / "mine.key")]) == 0
    said = capsys.readouterr()
    assert "20 of 30 episodes" in said.err and "held-out" in said.err and "repeating the last command" in said.out
    bundle = load_bundle(out, tmp_path / "keys")
    recorded = bundle.card.recorded
    assert bundle.signed_by is not None and recorded.flags == ("untuned", "monitor_uncalibrated")
    assert recorded.seeds == (4,) and recorded.recipe["method"] == "bc_safe" and recorded.recipe["cost_limit"] == 0.0
    assert recorded.data["bag 3 bag3"] == "bag3bag3" and len(recorded.data["dataset drives-v0"]) == 64
    assert bundle.card.monitor is not None and bundle.card.monitor.alpha_alarm is None
    assert "not calibrated" in recorded.recipe["monitor"]
    with open(tmp_path / "safe_run" / "loss.csv", encoding="utf-8") as stream:
        assert [row["update"] for row in csv.DictReader(stream)] == ["0", "60"]
    assert (tmp_path / "safe_run" / "loss.png").read_bytes().startswith(b"\x89PNG")

    policy, monitor = DeployedPolicy(bundle, ROBOT), DeployedMonitor(bundle, ROBOT)
    scans = [Scan(ns(0.1 * k), np.full(ROBOT.lidar.beams, 3.0, np.float32)) for k in range(3)]
    for deployed in (policy, monitor):
        for sample in (Goal(0, 4.0, 0.0), Command(0, 0.0, 0.0), Odom.from_yaw(0, 0.0, 0.0, 0.0, 1.0, 0.0), *scans):
            deployed.add(sample)
    command = policy.tick(ns(0.2))
    assert command.finite and ACTIONS.low[0] <= command.speed_mps <= ACTIONS.high[0]
    monitor.judge(command)
    assert np.isfinite(monitor.scores).all()


def test_the_same_command_gives_the_same_models(stored: Path, tmp_path: Path) -> None:
    words = ["offline", "train", "--method", "bc", "--dataset", str(stored), "--robot", "jackal", "--updates", "10"]
    for name in ("one", "two"):
        assert main([*words, "--out", str(tmp_path / name), "--name", "clone"]) == 0
    for file in ("policy.onnx", "monitor.onnx"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    cards = [json.loads((tmp_path / name / "card.json").read_bytes()) for name in ("one", "two")]
    assert cards[0] == cards[1] and cards[0]["recorded"]["recipe"]["cost_limit"] is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("--method", "bc", "--cost-limit", "1"), "--cost-limit has no meaning with --method bc"),
        (("--cost-limit", "nan"), "must be finite and at least 0"),
        (("--updates", "0"), "updates = 0 updates is outside"),
        (("--dataset", "nowhere"), "nowhere is no data set of this program"),
        (("--robot", "nobody"), "nobody"),
        (("--key", "nowhere.key"), "nowhere.key"),
    ],
)
def test_bad_arguments_are_answered_by_name_and_status_2(
    change: tuple[str, ...], message: str, stored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--method", "bc_safe", "--dataset", str(stored), "--robot", "jackal", "--out", str(tmp_path / "bundle")]
    assert main(["offline", "train", *words, *change]) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "bundle").exists()


def test_a_data_set_of_another_robot_is_refused_field_by_field(drives: Dataset) -> None:
    beams = replace(ROBOT, name="other", lidar=replace(ROBOT.lidar, beams=360))
    slow = replace(ROBOT, name="slow", limits=replace(ROBOT.limits, speed_mps_max=1.0))
    for robot, field in ((beams, "lidar.beams: the data set has 720, the robot has 360"), (slow, "action.high")):
        with pytest.raises(
            ParameterError, match=rf"was recorded by robot 'jackal', which is not '{robot.name}'"
        ) as caught:
            offline_cmd.check_same_robot(drives, robot, Path("drives-v0"))
        assert field in str(caught.value)
    heavier = replace(ROBOT, name="heavier", base=replace(ROBOT.base, mass_kg=20.0))
    offline_cmd.check_same_robot(drives, heavier, Path("drives-v0"))  # the policy's contract holds
