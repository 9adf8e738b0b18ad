"""``dsac-robot train`` as it is typed: real short trainings, the run folder they leave, several seeds, refusals."""

import csv
import json
import os
import re
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from dsac_robot.apps.cli import main
from dsac_robot.apps.run_record import digest_of
from dsac_robot.apps.train_ray import RayLauncher, actor_name, pack, unpack
from dsac_robot.apps.train_seeds import LocalLauncher, Planned, Running, last_row, parse_seeds, run_planned, table_lines
from dsac_robot.core.files import load_yaml
from dsac_robot.core.params import ParameterError

TASK = "gym:tests.tiny_env:Reach-v0"
TINY = [
    *("--set", "trainer.environments=2", "--set", "trainer.warmup_steps=20", "--set", "trainer.batch=8"),
    *("--set", "trainer.eval_updates=20", "--set", "trainer.eval_episodes=2", "--set", "learner.hidden=[8]"),
    *("--set", "trainer.replay=1000"),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of 40 updates."""
    out = tmp_path_factory.mktemp("run") / "first"
    assert main(["train", TASK, "--out", str(out), "--updates", "40", "--seed", "3", *TINY]) == 0
    return out


def test_a_run_folder_says_what_was_trained_by_what_and_where(run: Path) -> None:
    record = json.loads((run / "run.json").read_text())
    recipe = load_yaml(run / "recipe.yaml")
    assert (record["task"], record["robot"], record["seed"], record["status"]) == (TASK, None, 3, "finished")
    assert record["recipe"] == recipe and record["recipe_digest"] == digest_of(recipe)
    assert recipe["environment"]["id"] == "tests.tiny_env:Reach-v0" and recipe["learner"]["hidden"] == [8]
    (session,) = record["sessions"]
    assert session["versions"]["torch"] == torch.__version__
    assert session["machine"]["cores"] >= 1 and session["machine"]["processor"]
    assert (session["updates"], record["steps"]) == (40, 20 + 2 * 40) and session["wall_s"] > 0.0
    with open(run / "eval.csv", encoding="utf-8") as stream:
        assert [row["updates"] for row in csv.DictReader(stream)] == ["0", "20", "40"]


def test_the_report_of_a_run_is_one_file_with_curves_configuration_and_versions(run: Path) -> None:
    page = (run / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 1  # progress has one row: no curves of the learner
    assert not re.search(r'(?:src|href)="(?!data:|#)', page)
    for said in (TASK, "finished", "40 updates", torch.__version__, "eval_updates", "log_alpha_init", "success"):
        assert said in page
    assert re.search(r"seed</code></td><td>3<", page)


def test_the_report_of_a_run_that_has_not_ended_can_be_made_at_any_time(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unpack(pack(run), tmp_path)
    record = json.loads((tmp_path / "run.json").read_text())
    record["status"] = "running"
    (tmp_path / "run.json").write_text(json.dumps(record))
    (tmp_path / "eval.csv").unlink()
    rows = (tmp_path / "progress.csv").read_text().splitlines()
    (tmp_path / "progress.csv").write_text("\n".join([rows[0], rows[1].replace("40", "20", 1), rows[1], ""]))
    assert main(["report", str(tmp_path)]) == 0
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<b>running</b>" in page and "None was made" in page and page.count("data:image/png") == 2


def test_a_resumed_run_goes_on_and_keeps_the_record_of_both_sessions(run: Path, tmp_path: Path) -> None:
    unpack(pack(run), tmp_path)
    assert main(["train", TASK, "--out", str(tmp_path), "--resume", "--updates", "60"]) == 0
    record = json.loads((tmp_path / "run.json").read_text())
    assert [session["updates"] for session in record["sessions"]] == [40, 60]
    assert record["recipe"]["trainer"]["updates"] == 60 and record["recipe"]["learner"]["hidden"] == [8]
    with open(tmp_path / "eval.csv", encoding="utf-8") as stream:
        assert [row["updates"] for row in csv.DictReader(stream)] == ["0", "20", "40", "60"]


def test_the_reward_scale_of_training_leaves_evaluation_in_the_tasks_own_unit(run: Path, tmp_path: Path) -> None:
    out, scale = tmp_path / "scaled", ["--set", "environment.reward_scale=100"]
    assert main(["train", TASK, "--out", str(out), "--updates", "5", "--seed", "3", *TINY, *scale]) == 0
    first, scaled = last_row(run / "progress.csv"), last_row(out / "progress.csv")
    assert float(scaled["return"]) > 20.0 * float(first["return"])
    with open(out / "eval.csv", encoding="utf-8") as stream, open(run / "eval.csv", encoding="utf-8") as other:
        assert next(csv.DictReader(stream))["return"] == next(csv.DictReader(other))["return"]  # the same first actor


def test_several_seeds_train_at_once_each_as_if_alone_and_are_left_alone_when_finished(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", TASK, "--out", str(tmp_path), "--updates", "40", "--seeds", "3-4", "--processes", "2", *TINY]
    assert main(command) == 0
    shown = capsys.readouterr()
    assert "2 runs in" in shown.out and len(re.findall(r"^ +[34] finished +40 ", shown.err, re.M)) == 2
    for seed in (3, 4):
        folder = tmp_path / f"seed_{seed}"
        record = json.loads((folder / "run.json").read_text())
        assert (record["seed"], record["status"], record["recipe"]["trainer"]["seed"]) == (seed, "finished", seed)
        assert (folder / "report.html").exists() and "evaluation" in (folder / "train.log").read_text()
    alone, together = (torch.load(f / "checkpoint.pt", weights_only=False) for f in (run, tmp_path / "seed_3"))
    for name, value in alone["learner"]["actor"].items():
        assert torch.equal(value, together["learner"]["actor"][name])
    assert main(command) == 2
    assert "give --resume" in capsys.readouterr().err
    assert main([*command, "--resume"]) == 0
    assert "seed_4 is finished already" in capsys.readouterr().err


def test_a_run_that_fails_is_named_with_its_log_and_the_others_go_on(
    tmp_path: Path,
) -> None:
    planned = []
    for seed, words in ((0, ("fly",)), (1, ("--help",))):
        folder = tmp_path / f"seed_{seed}"
        folder.mkdir()
        (folder / "run.json").write_text('{"format": 1, "status": "finished"}')
        planned.append(Planned(seed, folder, words))
    assert run_planned(planned, LocalLauncher(1))
    assert [run.look.status for run in planned] == [2, 0]
    assert "unknown task 'fly'" in (tmp_path / "seed_0/train.log").read_text()
    assert "FAILED (2)" in table_lines(planned)[1] and "finished" in table_lines(planned)[2]


def test_an_interrupt_stops_all_runs_each_saves_and_resume_finds_them(tmp_path: Path) -> None:
    planned = []
    for seed in (0, 1):
        folder = tmp_path / f"seed_{seed}"
        folder.mkdir()
        planned.append(Planned(seed, folder, (TASK, "--seed", str(seed), *TINY)))

    def interrupt_when_both_train() -> None:
        while not all((run.folder / "eval.csv").exists() for run in planned):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    watcher = threading.Thread(target=interrupt_when_both_train)
    watcher.start()
    assert not run_planned(planned, LocalLauncher(2))  # 150 000 updates were to be made
    watcher.join()
    assert [run.state for run in planned] == ["stopped", "stopped"]
    for run in planned:
        record = json.loads((run.folder / "run.json").read_text())
        state = torch.load(run.folder / "checkpoint.pt", weights_only=False)
        assert record["status"] == "stopped" and record["steps"] == state["steps"]


def lose_a_machine(folder: Path) -> Planned:
    """A run whose Ray worker is killed as soon as it is there."""
    import ray

    folder.mkdir()
    (folder / "note").write_text("mine")

    class Launcher(RayLauncher):
        def start(self, folder: Path, arguments: Sequence[str]) -> Running:
            running = super().start(folder, arguments)
            ray.kill(ray.get_actor(actor_name(folder)))
            return running

    planned = Planned(0, folder, (TASK, *TINY))
    assert run_planned([planned], Launcher("local", 2, 2))
    return planned


def test_ray_trains_two_seeds_on_two_workers_and_brings_their_folders_back(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    monkeypatch.setenv("HOME", str(tmp_path / "home"))  # Ray keeps a token there
    (tmp_path / "home").mkdir()
    out = tmp_path / "runs"
    command = ["train", TASK, "--out", str(out), "--updates", "40", "--seeds", "3,4", *TINY]
    try:
        assert main([*command, "--ray", "local", "--processes", "2"]) == 0
        lost = lose_a_machine(tmp_path / "lost")
    finally:
        ray.shutdown()
    assert lost.look.status not in (None, 0) and "FAILED" in lost.state
    assert [path.name for path in lost.folder.iterdir()] == ["note"]  # as it was
    places = []
    for seed in (3, 4):
        folder = out / f"seed_{seed}"
        (session,) = json.loads((folder / "run.json").read_text())["sessions"]
        assert session["status"] == "finished"
        places.append(session["command"][-1])
        assert (folder / "report.html").exists() and list(folder.glob("events.out.tfevents.*"))
    assert places[0] != places[1] and not any(place.startswith(str(out)) for place in places)
    alone, there = (torch.load(f / "checkpoint.pt", weights_only=False) for f in (run, out / "seed_3"))
    for name, value in alone["learner"]["actor"].items():
        assert torch.equal(value, there["learner"]["actor"][name])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["gym:CartPole-v1"], r"action space Discrete\(2\) is not continuous"),
        ([TASK, "--set", "learner.gamma=1.5"], r"gamma = 1.5 .* is outside \[0.0, 1.0\]"),
        ([TASK, "--set", "task.x=1"], "unknown section task; known: environment, learner, trainer"),
        ([TASK, "--processes", "2"], "give --seeds, such as --seeds 0-4"),
        ([TASK, "--seeds", "0-x"], "'0-x' is neither a number nor a range"),
        ([TASK, "--seeds", "0", "--seed", "1"], "exclude each other"),
        ([TASK, "--seeds", "0", "--processes", "0"], "--processes 0 must be at least 1"),
    ],
)
def test_bad_settings_are_refused_before_anything_starts(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["train", *arguments, "--out", str(out)]) == 2
    assert re.search(said, capsys.readouterr().err)
    assert not out.exists()


def test_an_unknown_task_is_refused_with_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["train", "fly", "--out", "x"])
    assert ended.value.code == 2
    assert "unknown task 'fly': navigate" in capsys.readouterr().err


def test_a_finished_run_is_not_overwritten(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (run / "run.json").stat().st_mtime_ns
    assert main(["train", TASK, "--out", str(run), *TINY]) == 2
    assert "holds a run already: give --resume" in capsys.readouterr().err
    assert (run / "run.json").stat().st_mtime_ns == before


@pytest.mark.parametrize(("text", "seeds"), [("0", (0,)), ("0-2", (0, 1, 2)), ("7,1-2", (7, 1, 2))])
def test_seeds_are_numbers_and_ranges(text: str, seeds: tuple[int, ...]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "a", "3-1", "1,,2", "-3", "1-2-3", "0-3,2", "1.5"])
def test_seeds_that_are_neither_or_there_twice_are_refused(text: str) -> None:
    with pytest.raises(ParameterError, match="--seeds"):
        parse_seeds(text)


def test_the_digest_of_a_recipe_is_that_of_the_method_not_of_the_seed(run: Path) -> None:
    recipe = json.loads((run / "run.json").read_text())["recipe"]
    other = recipe | {"trainer": recipe["trainer"] | {"seed": 9, "workers": 2}}
    assert digest_of(other) == digest_of(recipe)
    assert digest_of(recipe | {"learner": recipe["learner"] | {"gamma": 0.9}}) != digest_of(recipe)


def test_the_last_row_of_a_file_that_is_being_written_is_its_last_whole_line(tmp_path: Path) -> None:
    path = tmp_path / "progress.csv"
    assert last_row(path) == {}
    path.write_text("updates,return\n")
    assert last_row(path) == {}
    path.write_text("updates,return\n1,5\n2,6\n3,")
    assert last_row(path) == {"updates": "2", "return": "6"}
