"""What is ill stops the run with its name; a collapse is told once."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dsac_robot.learn import checkpoint
from dsac_robot.learn.dsac_t import Batch, DsacT
from dsac_robot.learn.health import Health, HealthConfig, Unhealthy
from tests.learn.test_dsac_t import batch_of, learner


def run_one(made: DsacT, batch: Batch, out: Path, config: HealthConfig = HealthConfig()) -> None:
    Health(config, out).check_update(made, batch, made.update(batch))


@pytest.mark.parametrize("part", ["observation", "action", "reward", "next_observation"])
def test_a_bad_number_in_a_batch_is_named_and_the_batch_dumped(part: str, tmp_path: Path) -> None:
    made, batch = learner(), batch_of(16)
    run_one(made, batch, tmp_path)  # a healthy one passes
    getattr(batch, part).view(-1)[3] = float("nan")
    with pytest.raises(Unhealthy, match=rf"at update 2; not finite: batch\.{part} \(1 of 16 numbers\).*no checkpoint"):
        run_one(made, batch, tmp_path)
    dump = checkpoint.load(tmp_path / "unhealthy_00000002.pt")
    assert torch.isnan(dump["batch"][part].view(-1)[3]) and dump["learner"]["updates"] == 2


def test_values_that_explode_stop_the_run_while_they_are_still_finite(tmp_path: Path) -> None:
    made, batch = learner(), batch_of(16)
    batch = replace(batch, reward=batch.reward.abs() * 1e9)
    with pytest.raises(Unhealthy, match=r"y_q = .*e\+08 at update 1; all tensors are finite; beyond 1e\+08"):
        run_one(made, batch, tmp_path)
    run_one(learner(), batch, tmp_path, HealthConfig(value_max=1e12))


def test_a_bad_number_from_an_environment_is_named_before_it_is_stored(tmp_path: Path) -> None:
    health = Health(HealthConfig(), tmp_path)
    health.check_step(np.zeros((3, 4)), np.zeros(3), 60)
    with pytest.raises(Unhealthy, match="reward of environment 2 is not finite after 60 steps"):
        health.check_step(np.zeros((3, 4)), np.array([0.0, 0.0, np.inf]), 60)
    bad = np.zeros((3, 4))
    bad[1, 2] = np.nan
    with pytest.raises(Unhealthy, match="observation of environment 1"):
        health.check_step(bad, np.zeros(3), 60)


def test_a_collapse_of_sigma_or_alpha_is_told_once_and_again_after_it_recovered(tmp_path: Path) -> None:
    health = Health(HealthConfig(), tmp_path)

    def told(sigma: float, alpha: float) -> list[str]:
        return [alert.name for alert in health.alerts(100, {"sigma": sigma, "alpha": alpha})]

    assert told(10.0, 0.1) == [] and told(0.02, 0.1) == []
    assert told(0.009, 0.1) == ["sigma"] and told(0.008, 0.1) == []
    assert told(5.0, 4e-5) == ["alpha"] and told(0.009, 0.1) == ["sigma"]
    restored = Health(HealthConfig(), tmp_path)
    restored.load_state_dict(health.state_dict())
    assert [alert.name for alert in restored.alerts(200, {"sigma": 0.009, "alpha": 0.1})] == []
