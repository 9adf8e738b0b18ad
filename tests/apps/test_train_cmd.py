"""``dsac-robot train`` on each task: recipes that are read strictly, and a run that leaves what it should."""

import math
from pathlib import Path

import pytest

from dsac_robot.apps.cli import main
from dsac_robot.apps.robot_template import template
from dsac_robot.apps.run_record import read_record
from dsac_robot.apps.run_robot import robot_of_run
from dsac_robot.apps.train_cmd import Recipe, make_env, read_recipe, setup_of
from dsac_robot.core.files import load_yaml
from dsac_robot.core.navigate import NavigateParams
from dsac_robot.core.observation import LAYOUTS
from dsac_robot.core.params import ParameterError
from dsac_robot.core.robot import load_robot
from dsac_robot.core.track import TrackParams

TINY = ["trainer.environments=2", "trainer.warmup_steps=8", "trainer.batch=4", "trainer.replay=1000"]


@pytest.mark.parametrize(("task", "params"), [("navigate", NavigateParams()), ("track", TrackParams())])
def test_a_recipe_is_of_its_task_and_makes_its_environment(task: str, params: object) -> None:
    recipe = read_recipe({}, "recipe", task)
    assert recipe.task == params
    env = make_env(load_robot("jackal"), task, recipe)
    assert env.layout == LAYOUTS[task]
    assert tuple(spec.name for spec in env.builder.specs) == LAYOUTS[task].terms


def test_a_key_of_another_task_is_refused_by_name() -> None:
    with pytest.raises(ParameterError, match="environment: unknown key worlds"):
        read_recipe({"environment": {"worlds": "mix"}}, "recipe", "track")
    with pytest.raises(ParameterError, match="task: unknown key lateral_weight"):
        read_recipe({"task": {"lateral_weight": 1.0}}, "recipe", "navigate")


def settings_of(*words: str) -> Recipe:
    """The recipe that a command line gives."""
    from dsac_robot.apps.cli import parser

    recipe = setup_of(parser("train").parse_args(["train", *words, "--out", "run"])).run.recipe
    return read_recipe(recipe, "recipe", words[0])


def test_a_robot_without_a_recipe_takes_the_jackals_but_for_what_is_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    jackal = settings_of("navigate", "--robot", "jackal")
    assert "no recipe" not in capsys.readouterr().err
    mine = tmp_path / "my_bot.yaml"
    mine.write_text(template("my_bot", "my_bot.yaml"), encoding="utf-8")
    robot = load_robot(mine)
    recipe = settings_of("navigate", "--robot", str(mine))
    said = capsys.readouterr().err
    assert "navigate_jackal.yaml" in said and "my_bot" in said
    assert recipe.learner == jackal.learner and recipe.trainer == jackal.trainer and recipe.task == jackal.task
    fan_deg = math.degrees(robot.lidar.beams * robot.lidar.angle_increment_rad)
    assert recipe.environment.forward_only == (fan_deg < 355.0)
    slower = load_robot("jackal").limits.speed_mps_max / robot.limits.speed_mps_max
    assert recipe.environment.time_limit_s == pytest.approx(20.0 * slower, abs=0.05)
    assert f"environment.time_limit_s {recipe.environment.time_limit_s}" in said
    burger = settings_of("navigate", "--robot", "burger", "--set", "environment.forward_only=true")
    assert burger.environment.time_limit_s == 100.0 and burger.environment.forward_only  # --set has the last word
    assert not settings_of("navigate", "--robot", "burger").environment.forward_only
    assert settings_of("track", "--robot", "burger").task == settings_of("track", "--robot", "jackal").task
    assert settings_of("attack", "--robot", "burger").learner == settings_of("attack", "--robot", "jackal").learner


def test_a_short_run_of_track_leaves_its_recipe_and_a_checkpoint(tmp_path: Path) -> None:
    settings = [*TINY, "environment.difficulty=[0.5, 1]", "environment.time_limit_s=2"]
    options = [part for item in settings for part in ("--set", item)]
    assert main(["train", "track", "--out", str(tmp_path / "run"), "--updates", "3", "--seed", "1", *options]) == 0
    recipe = load_yaml(tmp_path / "run" / "recipe.yaml")
    assert recipe["environment"]["difficulty"] == [0.5, 1.0] and recipe["task"]["lateral_weight"] == 1.4
    assert (tmp_path / "run" / "checkpoint.pt").is_file()


def test_a_run_keeps_its_robot_which_resume_and_export_take_and_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, run = tmp_path / "my_bot.yaml", tmp_path / "run"
    file.write_text(template("my_bot", "my_bot.yaml"), encoding="utf-8")
    options = [part for item in [*TINY, "trainer.eval_updates=0"] for part in ("--set", item)]
    train = ["train", "navigate", "--out", str(run)]
    assert main([*train, "--robot", str(file), "--updates", "2", *options]) == 0
    assert load_robot(run / "robot.yaml") == load_robot(file)
    assert main([*train, "--resume", "--updates", "3"]) == 0  # without --robot: its own, not the Jackal
    assert read_record(run)["robot"] == "my_bot" and load_robot(run / "robot.yaml") == load_robot(file)
    assert Path(robot_of_run(run, None)) == run / "robot.yaml"
    capsys.readouterr()

    export = ["export", str(run), "--out", str(tmp_path / "bundle")]
    for command in ([*train, "--resume"], export):
        assert main([*command, "--robot", "jackal"]) == 2
        assert "was trained for robot 'my_bot', not 'jackal'" in capsys.readouterr().err
    changed = file.read_text(encoding="utf-8").replace("wheel_radius_m: 0.05 ", "wheel_radius_m: 0.04 ")
    file.write_text(changed, encoding="utf-8")
    assert main([*train, "--resume", "--robot", str(file)]) == 2
    assert "base.wheel_radius_m: it began with 0.05, now 0.04" in capsys.readouterr().err
    assert main([*export, "--robot", str(file)]) == 2
    assert "geometry.wheel_radius_m: the bundle has 0.05, the robot has 0.04" in capsys.readouterr().err
    assert not (tmp_path / "bundle").exists()


def test_a_run_of_an_earlier_release_is_known_by_its_robots_name(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="does not say which robot"):
        robot_of_run(tmp_path, None)
    record = tmp_path / "run.json"
    record.write_text('{"format": 1, "robot": "burger"}', encoding="utf-8")
    assert robot_of_run(tmp_path, None) == "burger"
    with pytest.raises(ParameterError, match="trained for robot 'burger', not 'jackal'"):
        robot_of_run(tmp_path, "jackal")
    record.write_text('{"format": 1, "robot": "gone"}', encoding="utf-8")
    with pytest.raises(ParameterError, match="'gone': give its file with --robot"):
        robot_of_run(tmp_path, None)
