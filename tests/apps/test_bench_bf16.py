"""``dsac-robot bench bf16``: two groups of runs that differ in precision alone, and a verdict."""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import pytest

from dsac_robot.apps.bench_bf16 import _planned, verdict
from dsac_robot.apps.cli import main, parser
from dsac_robot.apps.train_run import Setup


def planned_setup(args: argparse.Namespace, precision: str) -> Setup:
    from dsac_robot.apps.train_cmd import setup_of

    run = _planned(args, precision, 3)
    return setup_of(parser().parse_args(["train", *run.arguments, "--out", str(run.folder)]))


def test_the_two_groups_differ_in_precision_alone(tmp_path: Path) -> None:
    more = ["--task", "Pendulum-v1", "--updates", "6000", "--environments", "10", "--warmup-steps", "2000"]
    args = parser().parse_args(["bench", "bf16", "--out", str(tmp_path), *more])
    one, other = planned_setup(args, "fp32"), planned_setup(args, "bf16")
    configs = [setup.learner(3, 1).config for setup in (one, other)]
    assert [config.precision for config in configs] == ["fp32", "bf16"]
    assert replace(configs[1], precision="fp32") == configs[0]
    assert one.trainer == other.trainer
    assert (one.trainer.updates, one.trainer.environments, one.trainer.warmup_steps) == (6000, 10, 2000)
    assert one.trainer.seed == 3


def test_bf16_is_to_reach_the_interval_of_fp32() -> None:
    fp32 = {"iqm_fp32": 4000.0, "iqm_fp32_low": 3500.0}
    assert verdict(fp32 | {"iqm_bf16": 3600.0}).ok is True
    assert verdict(fp32 | {"iqm_bf16": 3400.0}).ok is False


@pytest.mark.slow
def test_a_short_run_of_both_ends_in_a_verdict_and_is_not_done_again(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bf16.json"
    command = ["bench", "bf16", "--out", str(tmp_path / "runs"), "--task", "Pendulum-v1", "--seeds", "0"]
    command += ["--updates", "4", "--eval-updates", "2", "--environments", "2", "--warmup-steps", "400"]
    command += ["--processes", "2", "--json", str(path)]
    assert main(command) == 0
    names = [row["name"] for row in json.loads(path.read_text(encoding="utf-8"))["figures"]]
    assert "bf16_iqm_above_lower_end_of_fp32" in names and "iqm_fp32_low" in names
    assert "2 of 2 runs to do" in capfd.readouterr().err
    assert main(command) == 0
    assert "0 of 2 runs to do" in capfd.readouterr().err
