"""Export: the models say what torch says, carry nothing of this machine, and run as the robot runs them."""

import argparse
import dataclasses
import math
import os
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from dsac_robot.apps import bundling, export_cmd
from dsac_robot.apps.closed_loop import LoopParams, drive
from dsac_robot.apps.run_record import RunId, RunRecord
from dsac_robot.apps.train_cmd import read_recipe
from dsac_robot.bundle.card import Recorded
from dsac_robot.bundle.deployed import DeployedMonitor, DeployedPolicy, check_contents, load_bundle
from dsac_robot.bundle.errors import BundleError
from dsac_robot.bundle.write import write_bundle
from dsac_robot.core.action import ActionMap
from dsac_robot.core.files import dump_yaml
from dsac_robot.core.observation import ObservationLayout, TermSpec, flatten, layout_for
from dsac_robot.core.ood import MonitorSpec, ScoreSpec
from dsac_robot.core.params import ParameterError, as_dict
from dsac_robot.core.robot import Robot
from dsac_robot.core.values import Command, Floats32, Goal, Odom, Scan, ns
from dsac_robot.learn.export import (
    MONITOR_SCORES,
    DensityMonitor,
    DeployedActor,
    parity,
    runtime_of,
    split_terms,
    to_onnx,
)
from dsac_robot.learn.networks import Actor
from dsac_robot.learn.policy import make_learner
from sim.worlds import empty_world

Specs = tuple[TermSpec, ...]


def observations(count: int, seed: int = 0) -> Floats32:
    """Raw SI as the robot may sense it. # (N, 114)"""
    rng = np.random.default_rng(seed)
    parts = rng.uniform(0.0, 10.0, (count, 108)), rng.uniform(-10.0, 10.0, (count, 2)), rng.uniform(-2, 2, (count, 4))
    return np.concatenate(parts, axis=1).astype(np.float32)


def commands(robot: Robot, count: int, seed: int = 1) -> Floats32:
    actions = np.random.default_rng(seed).uniform(-1.0, 1.0, (count, 2))
    return ActionMap.of(robot.limits).to_command(actions).astype(np.float32)


def fitted(actor: Actor, robot: Robot) -> DensityMonitor:
    monitor = DensityMonitor(actor, ActionMap.of(robot.limits))
    monitor.fit(observations(400), commands(robot, 400))
    return monitor


def test_onnx_gives_torchs_commands_and_scores(actor: Actor, robot: Robot, specs: Specs) -> None:
    rows, asked = observations(50, 7), commands(robot, 50, 8)
    policy = DeployedActor(actor, ActionMap.of(robot.limits))
    assert parity(policy, to_onnx(policy, specs, "command", with_command=False), specs, rows) < 1e-5
    monitor = fitted(actor, robot)
    assert parity(monitor, to_onnx(monitor, specs, "scores", with_command=True), specs, rows, asked) < 1e-5


def test_the_command_is_the_actors_mode_scaled_to_the_robots_limits(actor: Actor, robot: Robot, specs: Specs) -> None:
    rows = observations(20)
    actions = ActionMap.of(robot.limits)
    runtime = runtime_of(
        to_onnx(DeployedActor(actor, actions), specs, "command", with_command=False), specs, "command", (2,), False
    )
    terms = split_terms(specs, rows)
    found = np.stack([runtime.run({name: term[i] for name, term in terms.items()}) for i in range(20)])
    with torch.no_grad():
        mode = actor.mode(torch.from_numpy(rows)).double().numpy()
    np.testing.assert_allclose(found, actions.to_command(mode), atol=1e-5)
    assert (found >= np.array(actions.low) - 1e-6).all() and (found <= np.array(actions.high) + 1e-6).all()


def test_inputs_are_the_named_terms_with_a_free_batch_and_nothing_else(
    actor: Actor, robot: Robot, specs: Specs
) -> None:
    policy = DeployedActor(actor, ActionMap.of(robot.limits))
    for module, output, names in (
        (policy, "command", [spec.name for spec in specs]),
        (fitted(actor, robot), "scores", [*(spec.name for spec in specs), "command"]),
    ):
        model = onnx.load_from_string(to_onnx(module, specs, output, with_command=output == "scores"))
        assert [item.name for item in model.graph.input] == names
        assert [item.name for item in model.graph.output] == [output]
        for item in (*model.graph.input, *model.graph.output):
            assert item.type.tensor_type.shape.dim[0].dim_param == "batch"
        assert tuple(d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim[1:]) == specs[0].shape


def test_the_bytes_hold_no_path_of_this_machine(actor: Actor, robot: Robot, specs: Specs) -> None:
    monitor = to_onnx(fitted(actor, robot), specs, "scores", with_command=True)
    policy = to_onnx(DeployedActor(actor, ActionMap.of(robot.limits)), specs, "command", with_command=False)
    for model in (policy, monitor):
        for trace in (os.getcwd(), str(Path.home()), os.path.dirname(torch.__file__), "site-packages", ".py"):
            assert trace.encode() not in model, trace
    assert to_onnx(DeployedActor(actor, ActionMap.of(robot.limits)), specs, "command", with_command=False) == policy


def test_the_monitor_scores_ordinary_drives_near_one_and_strange_ones_higher(actor: Actor, robot: Robot) -> None:
    monitor = fitted(actor, robot)

    def scores(rows: Floats32) -> Floats32:
        with torch.no_grad():
            return monitor.scores(torch.from_numpy(rows), torch.from_numpy(commands(robot, len(rows), 3))).numpy()

    ordinary = scores(observations(400, 5))
    assert ordinary.shape == (400, len(MONITOR_SCORES))
    np.testing.assert_allclose(np.sqrt((ordinary**2).mean(axis=0)), 1.0, atol=0.35)
    stuck = observations(50, 6)
    stuck[:, :108] = 0.0
    assert scores(stuck)[:, 0].min() > np.quantile(ordinary[:, 0], 0.99)


def test_the_bundle_drives_through_the_deployed_policy_and_its_monitor_judges(
    actor: Actor, robot: Robot, tmp_path: Path
) -> None:
    trained = bundling.Trained("test", actor, robot, ObservationLayout(), Recorded(flags=("untuned",)))
    models = bundling.fitted_models(trained, observations(400), commands(robot, 400))
    assert set(models.parity) == {"command_max_abs", "scores_max_abs", "rows"} and models.parity["rows"] == 400
    assert max(models.parity["command_max_abs"], models.parity["scores_max_abs"]) < 1e-5
    write_bundle(tmp_path / "bundle", trained.card(bundling.OPEN), models.policy, models.monitor, None)
    bundle = load_bundle(tmp_path / "bundle", allow_unsigned=True)
    assert [report.model for report in check_contents(bundle)] == ["policy.onnx", "monitor.onnx"]
    policy, monitor = DeployedPolicy(bundle, robot), DeployedMonitor(bundle, robot)
    rng = np.random.default_rng(0)
    for deployed in (policy, monitor):
        deployed.add(Goal(0, 5.0, 1.0))
        deployed.add(Command(0, 0.0, 0.0))
        deployed.add(Odom.from_yaw(0, 0.0, 0.0, 0.1, 0.5, 0.0))
    for k in range(3):
        scan = Scan(ns(0.1 * k), rng.uniform(0.5, 9.0, robot.lidar.beams).astype(np.float32))
        policy.add(scan)
        monitor.add(scan)
    command = policy.tick(ns(0.2))
    assert policy.observation is not None
    with torch.no_grad():
        mode = actor.mode(torch.from_numpy(flatten(policy.observation)[None])).double().numpy()[0]
    expected = ActionMap.of(robot.limits).to_command(mode)
    np.testing.assert_allclose([command.speed_mps, command.yaw_rate_radps], expected, atol=1e-5)
    monitor.judge(command)
    assert np.isfinite(monitor.scores).all() and monitor.scores.shape == (2,)


def test_a_model_that_differs_from_the_card_is_no_parity(actor: Actor, robot: Robot, specs: Specs) -> None:
    policy = DeployedActor(actor, ActionMap.of(robot.limits))
    with pytest.raises(BundleError, match="has no input 'last_command'"):
        parity(policy, to_onnx(_Short(), specs[:3], "command", with_command=False), specs, observations(3))


class _Short(torch.nn.Module):
    """Takes no last command."""

    def forward(self, *terms: torch.Tensor) -> torch.Tensor:
        return torch.cat([term.flatten(1) for term in terms], dim=1)[:, :2]


def test_thresholds_are_conformal_on_episode_maxima_and_too_few_episodes_are_refused() -> None:
    maxima = np.stack([np.arange(1.0, 201.0), np.arange(201.0, 401.0)], axis=1)
    spec = bundling.calibrate(list(np.random.default_rng(0).permutation(maxima)))
    # alpha is halved for two scores: ranks ceil(201 * 0.975) = 196 and ceil(201 * 0.995) = 200
    assert spec.scores == (ScoreSpec("sensing", 196.0, 200.0), ScoreSpec("behaviour", 396.0, 400.0))
    assert (spec.episodes, spec.alpha_caution, spec.alpha_alarm) == (200, 0.05, 0.01)
    with pytest.raises(ValueError, match="at least 199 calibration episodes, got 150"):
        bundling.calibrate(list(maxima[:150]))


def test_without_enough_episodes_the_thresholds_are_strict_and_promise_nothing() -> None:
    maxima = [np.array([3.0, 30.0]), np.array([1.0, 20.0]), np.array([2.0, 10.0]), np.full(2, -math.inf)]
    spec = bundling.conservative(maxima)
    assert spec == MonitorSpec((ScoreSpec("sensing", 2.0, 3.0), ScoreSpec("behaviour", 20.0, 30.0)), episodes=3)
    assert spec.alpha_caution is None and spec.alpha_alarm is None
    with pytest.raises(ParameterError, match="no held-out episode has 2 steps"):
        bundling.conservative(maxima[3:])


def test_export_refuses_bad_input_before_the_long_part(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    export_cmd.register(parser.add_subparsers())

    def refusal(*words: str) -> str:
        args = parser.parse_args(["export", str(tmp_path / "run"), "--out", str(tmp_path / "bundle"), *words])
        with pytest.raises(ParameterError) as caught:
            args.run(args)
        return str(caught.value)

    assert "--episodes 100 must be at least 400" in refusal("--episodes", "100")
    assert re.search(r"recipe\.yaml.*cannot be read", refusal())
    assert "no_such.key" in refusal("--key", str(tmp_path / "no_such.key"))
    (tmp_path / "notes.txt").write_text("not a bundle")
    assert "exists and is no bundle" in refusal("--out", str(tmp_path))


def track_run(folder: Path, robot: Robot) -> Path:
    """The folder of a run on task track that has just begun."""
    recipe = read_recipe({"learner": {"hidden": [16, 16]}, "environment": {"forward_only": True}}, "test", "track")
    sections = {field.name: as_dict(getattr(recipe, field.name)) for field in dataclasses.fields(recipe)}
    folder.mkdir()
    RunRecord(folder, RunId("track", robot.name, 0, sections))
    (folder / "recipe.yaml").write_text(dump_yaml(sections), encoding="utf-8")
    learner = make_learner(robot, layout_for("track", robot), recipe.learner)
    torch.save({"actor": learner.actor.state_dict(), "updates": 7}, folder / "actor.pt")
    return folder


def test_a_run_on_task_track_becomes_a_bundle_that_follows_plans_in_the_closed_loop(
    robot: Robot, tmp_path: Path
) -> None:
    folder = track_run(tmp_path / "run", robot)
    assert export_cmd.task_of(folder) == "track"
    actor, updates, recipe = export_cmd.load_actor(folder, folder / "actor.pt", robot, "track")
    layout = layout_for("track", robot)
    trained = bundling.Trained("t", actor, robot, layout, Recorded(recipe=recipe), "track")
    write_bundle(tmp_path / "bundle", trained.card(None), bundling.policy_model(trained), None, None)
    bundle = load_bundle(tmp_path / "bundle", allow_unsigned=True)
    assert (bundle.card.task, bundle.card.layout, updates) == ("track", layout, 7)
    policy = DeployedPolicy(bundle, robot)
    assert policy.follows_plan
    world = export_cmd.worlds_of("track", recipe, robot)(5)
    done = drive(robot, world, 0, policy, None, None, LoopParams(time_limit_s=2.0))
    assert len(done.observations) > 10 and (done.commands[:, 0] >= 0.0).all()  # forward only, as it was trained
    with pytest.raises(ParameterError, match="follows a plan, and world empty has no route: give one such as track:0"):
        drive(robot, empty_world(), 0, policy, None, None, LoopParams(time_limit_s=2.0))


def test_a_run_on_another_environment_is_no_policy_of_a_robot(tmp_path: Path) -> None:
    RunRecord(tmp_path, RunId("gym:HalfCheetah-v5", None, 0, {}))
    with pytest.raises(ParameterError, match="a run of gym:HalfCheetah-v5: only policies of navigate, track drive"):
        export_cmd.task_of(tmp_path)
