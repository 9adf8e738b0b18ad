"""The closed-loop half of the parity gate: what passes, what is refused, and what says nothing."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dsac_robot.apps import bundling
from dsac_robot.apps.parity_gate import RETURN_MAX, UNDECIDED_MAX, Ending, Episode, closed_loop, verdict
from dsac_robot.bundle.card import Recorded
from dsac_robot.core.action import ActionMap
from dsac_robot.core.observation import ObservationBuilder, ObservationLayout
from dsac_robot.core.params import ParameterError
from dsac_robot.core.robot import load_robot
from dsac_robot.learn.networks import Actor, Features

GOOD, BAD = Ending("success", 16.0, 1.0), Ending("contact", -9.0, 2.0)
SAME = Episode(1, GOOD, GOOD)


def test_equal_drives_pass_and_the_figures_go_into_the_card() -> None:
    figures = verdict([SAME] * 20)
    assert figures["closed_loop_episodes"] == 20.0 and figures["closed_loop_undecided"] == 0.0
    assert figures["closed_loop_return_difference"] == 0.0 == figures["closed_loop_cost_difference"]
    assert figures["closed_loop_return_difference_max"] == RETURN_MAX


def test_another_outcome_is_refused_by_its_seed() -> None:
    other = Episode(7, GOOD, BAD, ("success",) * 4)
    with pytest.raises(ParameterError, match=r"1 of 20 episodes otherwise than torch \(seeds 7\)"):
        verdict([SAME] * 19 + [other])


def test_an_episode_that_torch_itself_ends_in_two_ways_is_left_out_and_counted() -> None:
    chance = Episode(7, GOOD, BAD, ("success", "contact", "success", "success"))
    figures = verdict([SAME] * 19 + [chance])
    assert figures["closed_loop_undecided"] == 1.0 and figures["closed_loop_return_difference"] == 0.0
    with pytest.raises(ParameterError, match="end by chance"):
        verdict([SAME] * (19 - UNDECIDED_MAX) + [chance] * (UNDECIDED_MAX + 1))


@pytest.mark.parametrize(
    ("total", "cost", "named"), [(15.4, 1.0, "return"), (16.0, 2.1, "cost"), (float("nan"), 1.0, "return")]
)
def test_means_outside_their_bounds_are_refused_by_name(total: float, cost: float, named: str) -> None:
    with pytest.raises(ParameterError, match=f"mean {named} of the exported policy differs by"):
        verdict([Episode(1, GOOD, replace(GOOD, total=total, cost=cost))] * 20)


def test_one_episode_that_chance_lets_drag_on_does_not_decide() -> None:
    dragged = Episode(7, GOOD, replace(GOOD, total=5.0, cost=54.0))
    figures = verdict([SAME] * 19 + [dragged])
    assert (figures["closed_loop_return_difference"], figures["closed_loop_cost_difference"]) == (-0.15, 0.25)
    with pytest.raises(ParameterError, match="mean return"):
        verdict([SAME] * 16 + [dragged] * 4)


def test_the_gate_drives_both_and_finds_the_export_equal_and_a_reversed_one_different(tmp_path: Path) -> None:
    torch.manual_seed(0)
    robot = load_robot("jackal")
    actions, specs = ActionMap.of(robot.limits), ObservationBuilder(robot, ObservationLayout()).specs
    actor = Actor(Features(specs, actions), 2, (16,))
    with torch.no_grad():
        actor.net[2].bias[0] = 2.0  # forwards, into the next obstacle
    recipe = {"environment": {"time_limit_s": 4.0, "noise": False}}
    trained = bundling.Trained("test", actor, robot, ObservationLayout(), Recorded(recipe=recipe))
    figures = closed_loop(trained, bundling.policy_model(trained), "jackal", tmp_path / "gate", 1, episodes=1)
    assert figures["closed_loop_episodes"] == 1.0
    assert abs(figures["closed_loop_return_difference"]) < 0.05
    with torch.no_grad():
        other = Actor(Features(specs, actions), 2, (16,))
        other.net[2].bias[0] = -2.0  # stands at full reverse
    wrong = bundling.policy_model(replace(trained, actor=other))
    with pytest.raises(ParameterError, match=re.compile("parity gate: .*(otherwise than torch|differs by)")):
        closed_loop(trained, wrong, "jackal", tmp_path / "gate", 1, episodes=1)
