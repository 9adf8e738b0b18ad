"""``dsac-robot bench sb3``: both learners get the same budget and starts, finished runs are left alone."""

import argparse
import json
from pathlib import Path

import pytest

from dsac_robot.apps.bench_sb3 import _ours, _theirs, finished
from dsac_robot.apps.cli import main, parser


def arguments(out: Path, *more: str) -> argparse.Namespace:
    return parser().parse_args(["bench", "sb3", "--out", str(out), *more])


def test_both_learners_get_the_same_budget_batch_and_evaluation_starts(tmp_path: Path) -> None:
    from dsac_robot.apps.train_cmd import setup_of
    from dsac_robot.learn.seeds import Stream, seed_of

    args = arguments(tmp_path, "--updates", "5000", "--environments", "10", "--warmup-steps", "3000")
    ours = _ours(args, "Pendulum-v1", 2)
    command = list(ours.arguments[ours.arguments.index("train") :])
    trainer = setup_of(parser().parse_args(command)).trainer
    theirs = json.loads(Path(_theirs(args, "Pendulum-v1", 2).arguments[-1]).read_text())
    for name in ("updates", "environments", "warmup_steps", "batch", "eval_updates", "eval_episodes", "seed"):
        assert theirs[name] == getattr(trainer, name), name
    assert trainer.updates_per_step == 1
    assert theirs["eval_seed"] == seed_of(2, Stream.EVALUATION)


def test_a_finished_run_is_left_alone_until_more_updates_are_asked_for(tmp_path: Path) -> None:
    record = json.loads(Path(_theirs(arguments(tmp_path), "Hopper-v5", 0).arguments[-1]).read_text())["record"]
    folder = tmp_path / "sb3_sac/Hopper-v5_0"
    assert not finished(folder, 100)
    for status, updates, done in (("running", 100, False), ("finished", 100, True), ("finished", 99, False)):
        (folder / "run.json").write_text(json.dumps(record | {"status": status, "updates": updates}))
        assert finished(folder, 100) is done


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--updates", "1500"], "must be a multiple of --eval-updates 1000"),
        (["--warmup-steps", "30"], "must be a multiple of --environments"),
        (["--seeds", "x"], "'x' is neither a number nor a range"),
    ],
)
def test_budgets_that_do_not_divide_are_refused(
    more: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "sb3", "--out", str(tmp_path), *more]) == 2
    assert said in capsys.readouterr().err
