"""The base's clock from round trips: within half the shortest one of the truth, however the link delays."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsac_robot.core.base_clock import DRIFT, Backoff, ClockSync
from dsac_robot.core.protocol_messages import TimeSync, TimeSyncRsp

delays = st.tuples(st.integers(0, 90_000), st.integers(0, 90_000), st.integers(0, 500))


@given(st.integers(-(10**12), 10**12), st.lists(delays, min_size=1, max_size=40), st.floats(-DRIFT, DRIFT))
def test_the_clock_is_known_within_the_error_that_is_stated(offset: int, trips: list, drift: float) -> None:
    sync, host = ClockSync(), 10**13

    def base(host_us: int) -> int:
        return host_us + offset + round(drift * (host_us - 10**13))

    for there, back, turnaround in trips:
        host += 50_000
        t1, t2, t3 = host + there, host + there + turnaround, host + there + turnaround + back
        assert sync.add(host, base(t1), base(t2), t3)
        host = t3
        assert abs(sync.to_base_us(host) - base(host)) <= sync.error_us(host) + 2
        assert abs(sync.to_host_us(base(host), host) - host) <= sync.error_us(host) + 2


def test_the_shortest_round_trip_counts_until_drift_outweighs_it() -> None:
    sync = ClockSync()
    sync.add(0, 100, 100, 200)  # offset 0, error 0.1 ms
    for second, known in ((100, True), (400, False)):  # lopsided ones: wrong by 15 ms, with a bound of 25 ms
        at = second * 1_000_000
        sync.add(at, at + 40_000, at + 40_000, at + 50_000)
        assert (sync.to_base_us(at) == at) is known
    assert sync.error_us(at) == pytest.approx(25_001, abs=5)


@pytest.mark.parametrize("stamps", [(100, 0, 0, 50), (0, 10, 5, 100), (0, 0, 200, 100), (0, 0, 0, 300_000)])
def test_stamps_that_cannot_belong_together_are_refused(stamps: tuple[int, int, int, int]) -> None:
    sync = ClockSync()
    assert not sync.add(*stamps)
    assert sync.error_us(0) == float("inf")
    with pytest.raises(LookupError):
        sync.to_base_us(0)


def test_the_first_estimate_takes_twenty_round_trips() -> None:
    sync = ClockSync()
    for i in range(19):
        sync.add(i, i, i, i + 10)
    assert not sync.ready
    sync.add(20, 20, 20, 30)
    assert sync.ready


@pytest.mark.parametrize(("simulated", "pause_ms"), [(False, 200), (True, 20)])
def test_it_asks_at_once_after_each_answer_until_the_clock_is_known_and_then_at_its_pace(
    simulated: bool, pause_ms: int
) -> None:
    sync, ms = ClockSync(simulated), 1_000_000
    assert sync.ask(0) == TimeSync(0)
    assert sync.ask(19 * ms) is None and sync.ask(20 * ms) == TimeSync(20_000), "without an answer"
    for i in range(20):
        assert not sync.ready
        sync.answer(TimeSyncRsp(20_000, 20_000, 20_000), (21 + i) * ms)
        asked = sync.ask((21 + i) * ms)
        assert (asked is None) is sync.ready
    due = next(at for at in range(41, 1000) if sync.ask(at * ms))
    assert due == 39 + 20, "the pause before the last answer"
    assert next(at for at in range(due, 1000) if sync.ask(at * ms)) == due + pause_ms


def test_tries_to_connect_come_ever_slower_and_fast_again_after_an_answer() -> None:
    backoff = Backoff(0.1, 1.0)
    assert [backoff.failed() for _ in range(6)] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0, 1.0])
    backoff.succeeded()
    assert backoff.failed() == pytest.approx(0.1)
