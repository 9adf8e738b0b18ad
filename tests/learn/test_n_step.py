"""Returns over n steps on chains whose values are known by hand."""

import numpy as np
import pytest
import torch

from dsac_robot.core.action import ActionMap
from dsac_robot.core.observation import TermSpec
from dsac_robot.learn.dsac_t import Batch, DsacTConfig
from dsac_robot.learn.fast import FastDsacT
from dsac_robot.learn.n_step import NStep
from dsac_robot.learn.networks import Features
from dsac_robot.learn.replay import Replay

GAMMA = 0.9


def feed(made: NStep, rewards: list[float], end: str = "") -> list[tuple[float, ...]]:
    """Transitions of one environment on a chain of states 0, 1, 2, ...: state, action, reward, next, done, steps."""
    rows = []
    for k, reward in enumerate(rewards):
        last = k == len(rewards) - 1
        out = made.add(
            np.array([[k]], np.float32),
            np.array([[-k]], np.float32),
            np.array([reward]),
            np.array([[k + 1]], np.float32),
            np.array([last and end == "terminated"]),
            np.array([last and end == "truncated"]),
        )
        if out is not None:
            rows += [tuple(float(np.ravel(x)[i]) for x in out) for i in range(len(out[2]))]
    return rows


def test_with_one_step_every_transition_is_the_plain_one() -> None:
    assert feed(NStep(1, GAMMA, 1), [1.0, 2.0], "terminated") == [
        (0.0, 0.0, 1.0, 1.0, 0.0, 1.0),
        (1.0, -1.0, 2.0, 2.0, 1.0, 1.0),
    ]


@pytest.mark.parametrize(("end", "done"), [("terminated", 1.0), ("truncated", 0.0)])
def test_rewards_are_discounted_and_summed_and_the_end_of_an_episode_shortens_the_sum(end: str, done: float) -> None:
    rows = feed(NStep(3, GAMMA, 1), [1.0, 10.0, 100.0, 1000.0], end)
    expected = [
        (0.0, 0.0, 1.0 + 9.0 + 81.0, 3.0, 0.0, 3.0),
        (1.0, -1.0, 10.0 + 90.0 + 810.0, 4.0, done, 3.0),
        (2.0, -2.0, 100.0 + 900.0, 4.0, done, 2.0),
        (3.0, -3.0, 1000.0, 4.0, done, 1.0),
    ]
    np.testing.assert_allclose(rows, expected, rtol=1e-6)


def test_steps_that_wait_for_their_nth_are_saved_state_and_environments_do_not_mix() -> None:
    made, restored = NStep(2, GAMMA, 2), NStep(2, GAMMA, 2)
    no = np.array([False, False])

    def step(one: NStep, k: int, ended: np.ndarray = no) -> list[float] | None:
        x = np.array([[k], [100 + k]], np.float32)
        out = one.add(x, x, np.array([1.0, 10.0]), x + 1, ended, no)
        return None if out is None else out[2].tolist()

    assert step(made, 0) is None
    restored.load_state_dict(made.state_dict())
    for one in (made, restored):
        assert step(one, 1, np.array([True, False])) == pytest.approx([1.9, 1.0, 19.0])
        assert step(one, 2) == pytest.approx([19.0])  # the first has begun anew


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize(("end", "tail"), [("terminated", 0.0), ("truncated", 1.0 / (1.0 - GAMMA))])
def test_the_values_of_a_chain_are_learned(n: int, end: str, tail: float) -> None:
    """Four steps of reward 1, gamma 0.9. Terminated: 1 + 0.9 + ... of the steps left. Truncated, the last state stands
    for one that goes on for ever (a loop of reward 1 is stored with it): 10 everywhere."""
    torch.manual_seed(0)
    features = Features((TermSpec("state", (5,), ""),), ActionMap((-1.0, -1.0), (1.0, 1.0)))
    settings = DsacTConfig(hidden=(16,), gamma=GAMMA, tau=0.2, log_alpha_init=-20.0, critic_lr=5e-3, n_step=n)
    made = FastDsacT(features, 1, settings)
    replay = Replay(100, 5, 1, seed=0)
    onehot = np.eye(5, dtype=np.float32)
    for state, _, reward, following, done, steps in feed(NStep(n, GAMMA, 1), [1.0] * 4, end):
        row = (onehot[[int(state)]], np.zeros((1, 1), np.float32), np.array([reward]), onehot[[int(following)]])
        replay.add(*row, np.array([done]), np.array([steps]))
    if end == "truncated":
        loop = onehot[[4]]
        replay.add(loop, np.zeros((1, 1), np.float32), np.ones(1), loop, np.zeros(1))
    for _ in range(600):
        batch = replay.sample(64)
        # The actor's actions differ from the stored ones: the value must not depend on them here.
        action = 2.0 * torch.rand(64, 1) - 1.0
        made.update(Batch(batch.observation, action, batch.reward, batch.next_observation, batch.done, batch.steps))
    with torch.no_grad():
        values = made.critics(torch.eye(5)[:4], torch.zeros(4, 1))[0].mean(dim=0)
    left = 4 - torch.arange(4)
    expected = (1.0 - GAMMA**left) / (1.0 - GAMMA) + GAMMA**left * tail
    torch.testing.assert_close(values, expected.float(), rtol=0.06, atol=0.1)
