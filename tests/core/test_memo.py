"""Results kept by the identity of what they came from."""

import numpy as np

from dsac_robot.core.memo import by_identity


def test_the_same_object_is_computed_once_and_an_equal_one_again() -> None:
    calls: list[int] = []

    @by_identity(4)
    def total(values: list[int], more: list[int]) -> int:
        calls.append(1)
        return sum(values) + sum(more)

    one, same, other = [1, 2], [1, 2], [3]
    assert [total(one, other), total(one, other), total(same, other), total(one, more=other)] == [6, 6, 6, 6]
    assert len(calls) == 3  # keywords are computed anew


def test_a_result_never_outlives_the_identity_that_it_is_kept_under() -> None:
    @by_identity(2)
    def first(values: np.ndarray) -> float:
        return float(values[0])

    # Objects that die give their identity to the next ones: held here, they cannot.
    assert [first(np.array([float(k)])) for k in range(100)] == [float(k) for k in range(100)]
