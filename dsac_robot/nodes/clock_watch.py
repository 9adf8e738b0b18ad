"""Judging /clock by the steady clock, and the stamp of what is sent. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from dsac_robot.core.values import ns

EVIDENCE_S = 0.1  # silence of /clock that counts as loss where sensor stamps show that simulated time goes on


@dataclass
class ClockWatch:
    """Whether /clock is lost: silent for ``timeout_s`` of steady time.

    It is lost earlier, after 0.1 s, if a sensor's stamp is ahead of the clock by more than ``future_tolerance_s``:
    then the simulation goes on without it.
    """

    timeout_s: float
    future_tolerance_s: float
    heard_ns: int  # steady time of the last /clock; at first, of the start

    def lost(self, steady_ns: int, now_ns: int, newest_stamp_ns: int) -> bool:
        """True if /clock is lost at this steady time, ROS time ``now_ns`` and newest sensor stamp."""
        silence_ns = steady_ns - self.heard_ns
        goes_on = newest_stamp_ns > now_ns + ns(self.future_tolerance_s)
        return silence_ns > ns(EVIDENCE_S if goes_on else self.timeout_s)


def sent_stamp_ns(now_ns: int, last_ns: int, newest_sample_ns: int, tolerance_s: float) -> int:
    """The stamp of a command that is sent now: ROS time, but after the one before and after the newest sample seen.

    Simulated time advances in steps, so that ``now`` may repeat, and may equal the stamp of a scan that came earlier.
    A command that was sent after a scan came must not be stamped as if it had been sent before it: the next observation
    takes the newest command stamped not after its scan. More than ``tolerance_s`` ahead of ``now`` (a clock that
    jumped, samples from the future) the correction is dropped.
    """
    stamp_ns = max(now_ns, last_ns + 1, newest_sample_ns + 1)
    return stamp_ns if stamp_ns <= now_ns + ns(tolerance_s) else now_ns
