"""The delay from command to motion, measured from samples."""

import numpy as np
import pytest

from dsac_robot.core.values import Command, Odom, ns
from dsac_robot.data.delay import response_delay_s


def recording(delay_s: float, seconds: float = 20.0, noise: float = 0.05) -> tuple[list[Command], list[Odom]]:
    """Commands at 50 Hz that change every 0.4 s, and odometry at 30 Hz that follows them after ``delay_s``."""
    rng = np.random.default_rng(0)
    steps = np.repeat(rng.uniform(-1.0, 1.0, (int(seconds * 2.5), 2)), 20, axis=0)
    sent = [Command(ns(0.02 * k), *map(float, twist)) for k, twist in enumerate(steps)]
    odoms = []
    for at in np.arange(delay_s, seconds, 1.0 / 30.0):
        speed, yaw_rate = steps[int((at - delay_s) / 0.02)] + rng.normal(0.0, noise, 2)
        odoms.append(Odom(ns(at), 0.0, 0.0, 0.0, 1.0, float(speed), float(yaw_rate)))
    return sent, odoms


@pytest.mark.parametrize("delay_s", [0.0, 0.08, 0.21, 0.4])
def test_a_known_delay_is_found(delay_s: float) -> None:
    assert response_delay_s(*recording(delay_s)) == pytest.approx(delay_s, abs=0.03)


def test_nothing_is_claimed_where_nothing_can_be_known() -> None:
    sent, odoms = recording(0.1)
    assert response_delay_s(*recording(0.1, seconds=1.6)) is None
    assert response_delay_s([], odoms) is None
    assert response_delay_s([Command(c.stamp_ns, 0.3, 0.0) for c in sent], odoms) is None
    assert response_delay_s(sent, recording(0.1, noise=50.0)[1]) is None
