"""Loss of /clock, and the stamps of what is sent."""

from hypothesis import given
from hypothesis import strategies as st

from dsac_robot.core.values import ns
from dsac_robot.nodes.clock_watch import ClockWatch, sent_stamp_ns


def test_the_clock_is_lost_after_its_timeout_of_steady_time() -> None:
    watch = ClockWatch(0.5, 0.02, heard_ns=0)
    assert not watch.lost(ns(0.5), ns(7.0), ns(7.0))
    assert watch.lost(ns(0.5) + 1, ns(7.0), ns(7.0))


def test_it_is_lost_sooner_where_sensor_stamps_run_ahead_of_it() -> None:
    watch = ClockWatch(0.5, 0.02, heard_ns=0)
    assert watch.lost(ns(0.101), ns(7.0), ns(7.021))
    assert not watch.lost(ns(0.101), ns(7.0), ns(7.02))
    assert not watch.lost(ns(0.1), ns(7.0), ns(7.5))


def test_a_clock_that_is_heard_again_is_not_lost() -> None:
    watch = ClockWatch(0.5, 0.02, heard_ns=0)
    assert watch.lost(ns(0.6), 0, 0)
    watch.heard_ns = ns(0.6)
    assert not watch.lost(ns(0.7), 0, 0)


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**9))
def test_a_stamp_is_never_before_now_and_never_far_ahead(now_ns: int, last_ns: int, sample_ns: int) -> None:
    stamp_ns = sent_stamp_ns(now_ns, last_ns, sample_ns, 0.02)
    assert now_ns <= stamp_ns <= now_ns + ns(0.02)


def test_a_command_is_stamped_after_the_scan_that_came_before_it_and_after_the_command_before() -> None:
    assert sent_stamp_ns(1000, 900, 1000, 0.02) == 1001
    assert sent_stamp_ns(1000, 1000, 500, 0.02) == 1001
    assert sent_stamp_ns(1000, 400, 500, 0.02) == 1000
