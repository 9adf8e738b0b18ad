"""The replay: a ring whose rows stay together, and a random stream that is saved."""

import numpy as np
import pytest
import torch

from dsac_robot.learn.replay import Replay


def fill(replay: Replay, numbers: range) -> None:
    """Transitions that carry their number in every part."""
    n = np.array(numbers, np.float32)
    replay.add(np.stack([n, n + 0.1], 1), n[:, None] + 0.2, n + 0.3, np.stack([n + 0.4, n + 0.5], 1), n % 2)


def numbers_in(replay: Replay) -> set[int]:
    return {int(x) for x in replay.column("observation")[:, 0]}


def test_the_oldest_transitions_give_way() -> None:
    replay = Replay(5, 2, 1, seed=0)
    for start in range(0, 8, 2):
        fill(replay, range(start, start + 2))
    assert replay.size == 5 and numbers_in(replay) == {3, 4, 5, 6, 7}
    fill(replay, range(8, 20))  # more at once than it holds
    assert replay.size == 5 and numbers_in(replay) == set(range(15, 20))


def test_a_sample_holds_whole_transitions_and_only_stored_ones() -> None:
    replay = Replay(100, 2, 1, seed=0)
    fill(replay, range(10, 17))
    batch = replay.sample(1000)
    n = batch.observation[:, 0]
    assert {int(x) for x in n} == set(range(10, 17))  # all of them are drawn, and no empty row
    for found, offset in (
        (batch.observation[:, 1], 0.1),
        (batch.action[:, 0], 0.2),
        (batch.reward, 0.3),
        (batch.next_observation[:, 0], 0.4),
        (batch.next_observation[:, 1], 0.5),
    ):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, n + offset)
    torch.testing.assert_close(batch.done, n % 2)
    assert torch.equal(batch.steps, torch.ones(1000))
    _, counts = np.unique(n.numpy(), return_counts=True)
    assert counts.min() > 90  # of 143 expected


def test_a_restored_replay_draws_and_stores_what_the_saved_one_would() -> None:
    replay = Replay(6, 2, 1, seed=3)
    fill(replay, range(8))
    replay.sample(4)
    restored = Replay(6, 2, 1, seed=99)
    restored.load_state_dict(replay.state_dict())
    for one in (replay, restored):
        fill(one, range(20, 23))
    first, second = replay.sample(32), restored.sample(32)  # each has a buffer of its own
    assert torch.equal(first.observation, second.observation) and torch.equal(first.reward, second.reward)
    assert numbers_in(replay) == numbers_in(restored) == {5, 6, 7, 20, 21, 22}


def test_a_state_larger_than_the_capacity_is_refused() -> None:
    replay = Replay(6, 2, 1, seed=0)
    fill(replay, range(6))
    with pytest.raises(ValueError, match="holds 6, more than the capacity 5"):
        Replay(5, 2, 1, seed=0).load_state_dict(replay.state_dict())


def test_a_sample_is_gathered_into_the_same_buffer_every_time() -> None:
    replay = Replay(100, 2, 1, seed=0)
    fill(replay, range(50))
    first, second = replay.sample(16), replay.sample(16)
    assert first.observation.data_ptr() == second.observation.data_ptr()
    assert torch.equal(first.reward, second.reward)  # what the second drew
    assert len(replay.sample(8).reward) == 8


def test_a_ring_that_was_full_goes_on_after_its_newest_row_in_a_larger_one() -> None:
    small = Replay(4, 2, 1, seed=0)
    fill(small, range(6))  # rows 4, 5, 2, 3
    large = Replay(8, 2, 1, seed=0)
    large.load_state_dict(small.state_dict())
    fill(large, range(6, 8))
    assert large.size == 6 and list(large.column("observation")[:, 0]) == [2, 3, 4, 5, 6, 7]


def test_transitions_of_another_width_are_refused() -> None:
    replay = Replay(6, 2, 1, seed=0)
    fill(replay, range(6))
    with pytest.raises(ValueError, match="have 8 numbers, not the 10"):
        Replay(6, 3, 1, seed=0).load_state_dict(replay.state_dict())
