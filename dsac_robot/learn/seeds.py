"""Seeds of the parts of a run. Runs with neighbouring seeds share no stream, and the parts of one run share none."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What a stream of random numbers is for. The numbers are part of what makes a run repeatable: do not reorder."""

    ENVIRONMENTS = 1
    EVALUATION = 2


def seed_of(seed: int, stream: Stream, part: int = 0) -> int:
    """A seed below 2^30 for one stream of the run with ``seed``; ``part`` tells sessions of one stream apart."""
    return int(np.random.SeedSequence([seed, int(stream), part]).generate_state(1)[0]) >> 2
