"""``dsac-robot train`` on each task: recipes that are read strictly, and a run that leaves what it should."""

from pathlib import Path

import pytest

from dsac_robot.apps.cli import main
from dsac_robot.apps.train_cmd import make_env, read_recipe
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


def test_a_short_run_of_track_leaves_its_recipe_and_a_checkpoint(tmp_path: Path) -> None:
    settings = [*TINY, "environment.difficulty=[0.5, 1]", "environment.time_limit_s=2"]
    options = [part for item in settings for part in ("--set", item)]
    assert main(["train", "track", "--out", str(tmp_path / "run"), "--updates", "3", "--seed", "1", *options]) == 0
    recipe = load_yaml(tmp_path / "run" / "recipe.yaml")
    assert recipe["environment"]["difficulty"] == [0.5, 1.0] and recipe["task"]["lateral_weight"] == 1.4
    assert (tmp_path / "run" / "checkpoint.pt").is_file()
