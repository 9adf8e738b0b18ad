"""The base's clock as the host knows it, from round trips of TIME_SYNC, and the pause between tries to connect."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from dsac_robot.core.protocol_enums import LINK_TIMEOUT_S, TIME_SYNC_PERIOD_S, TIME_SYNC_SAMPLES
from dsac_robot.core.protocol_messages import TimeSync, TimeSyncRsp
from dsac_robot.core.values import ns

US = 1000  # nanoseconds
DRIFT = 1e-4  # of two quartz clocks against each other, at worst: 100 ppm
SIMULATED_DRIFT = 0.9  # of simulated time, which is slow or stands still where the machine is slow, against the host's
ROUND_TRIP_US_MAX = 200_000  # slower answers say nothing of use
WINDOW = TIME_SYNC_SAMPLES
ASK_NS = ns(0.02)  # again, until the clock is known
KEEP_ALIVE_NS = ns(min(0.4 * LINK_TIMEOUT_S, TIME_SYNC_PERIOD_S))  # without a frame the base ends the session


@dataclass(frozen=True)
class _RoundTrip:
    """One measurement: base minus host, wrong by at most ``error_us`` when it was made."""

    at_us: int
    offset_us: int
    error_us: float


class ClockSync:
    """Offset of the base's clock to the host's steady clock, both in microseconds.

    The true offset is within half a round trip of each measurement (the way there may take all of it, or the way back).
    Of the last ones that with the smallest bound counts, where a bound grows by ``drift`` times its age. (Cristian,
    "Probabilistic clock synchronization", 1989, with NTP's four stamps.)

    ``simulated``: the base's clock is simulated time, which does not keep pace with the host's.
    """

    def __init__(self, simulated: bool = False) -> None:
        self._drift = SIMULATED_DRIFT if simulated else DRIFT
        self._period_ns, self._due_ns = ASK_NS if simulated else KEEP_ALIVE_NS, 0
        self._kept: deque[_RoundTrip] = deque(maxlen=WINDOW)
        self.round_trip_us = 0  # of the last one

    def ask(self, now_ns: int) -> TimeSync | None:
        """TIME_SYNC if it is due: at first one after the other, then so often that session and clock stay fresh."""
        if now_ns < self._due_ns:
            return None
        self._due_ns = now_ns + (self._period_ns if self.ready else ASK_NS)
        return TimeSync(microseconds(now_ns))

    def answer(self, message: TimeSyncRsp, now_ns: int) -> None:
        """Take what the base answers."""
        self.add(message.t0_us, message.t1_us, message.t2_us, microseconds(now_ns))
        if not self.ready:
            self._due_ns = now_ns

    def add(self, t0_us: int, t1_us: int, t2_us: int, t3_us: int) -> bool:
        """Take a round trip: sent by the host at t0, received by the base at t1, answered at t2, back at t3.

        False, and nothing kept, where the four cannot belong together or it took longer than 0.2 s.
        """
        there_and_back = (t3_us - t0_us) - (t2_us - t1_us)
        if not (t0_us <= t3_us and t1_us <= t2_us and 0 <= there_and_back <= ROUND_TRIP_US_MAX):
            return False
        self.round_trip_us = there_and_back
        offset_us = ((t1_us - t0_us) + (t2_us - t3_us)) // 2
        self._kept.append(_RoundTrip((t0_us + t3_us) // 2, offset_us, 0.5 * there_and_back + 1.0))
        return True

    @property
    def ready(self) -> bool:
        """True once there were enough round trips for a first estimate."""
        return len(self._kept) == WINDOW

    def _best(self, host_us: int) -> _RoundTrip:
        return min(self._kept, key=lambda kept: kept.error_us + self._drift * abs(host_us - kept.at_us))

    def error_us(self, host_us: int) -> float:
        """How wrong the offset can be at that host time; infinite before the first round trip."""
        if not self._kept:
            return float("inf")
        best = self._best(host_us)
        return best.error_us + self._drift * abs(host_us - best.at_us)

    def to_base_us(self, host_us: int) -> int:
        """The base's time at a host time. Raises LookupError before the first round trip."""
        if not self._kept:
            raise LookupError("no round trip of TIME_SYNC yet")
        return host_us + self._best(host_us).offset_us

    def to_host_us(self, base_us: int, host_now_us: int) -> int:
        """The host's time at a base time; ``host_now_us`` chooses the estimate. Raises LookupError as above."""
        return base_us - (self.to_base_us(host_now_us) - host_now_us)


class Backoff:
    """Pause before each further try to connect: ``first_s``, then twice as long each time, up to ``longest_s``."""

    def __init__(self, first_s: float = 0.1, longest_s: float = 2.0) -> None:
        self._first_s, self._longest_s = first_s, longest_s
        self._next_s = first_s

    def failed(self) -> float:
        """A try has failed: so many seconds until the next."""
        pause_s = self._next_s
        self._next_s = min(2.0 * self._next_s, self._longest_s)
        return pause_s

    def succeeded(self) -> None:
        """The base has answered: the next failure starts again with the shortest pause."""
        self._next_s = self._first_s


def microseconds(time_ns: int) -> int:
    """Nanoseconds as whole microseconds, as the wire has them."""
    return time_ns // US


def nanoseconds(time_us: int) -> int:
    """The inverse."""
    return time_us * US
