"""The one store of recent samples that the simulator, the policy, the monitor and the bag reader build from."""

from __future__ import annotations

from bisect import bisect_right
from typing import TypeVar

from dsac_robot.core.values import NS, Command, Contact, Goal, Imu, Odom, Plan, Sample, Scan

S = TypeVar("S", Scan, Odom, Imu, Goal, Plan, Command, Contact)


class MissingSampleError(LookupError):
    """No sample of the kind is stamped at or before the asked time. The message names the kind and the time."""


class History:
    """Recent samples by kind, ordered by stamp.

    ``newest(kind, stamp)`` depends only on the samples' stamps, never on when they came. A second sample of a kind
    with the same stamp is ignored, so that a doubled message changes nothing. Samples older than ``horizon_s`` before
    the newest of their kind are forgotten, but the newest always stays (a goal is sent once).
    """

    def __init__(self, horizon_s: float = 2.0) -> None:
        self._horizon_ns = round(horizon_s * NS)
        self._samples: dict[type, list[Sample]] = {}
        self._stamps: dict[type, list[int]] = {}  # of the samples, because a search in plain integers is far quicker

    def add(self, sample: Sample) -> None:
        """Store one sample."""
        kept = self._samples.setdefault(type(sample), [])
        stamps = self._stamps.setdefault(type(sample), [])
        stamp_ns = sample.stamp_ns
        if not stamps or stamp_ns > stamps[-1]:
            kept.append(sample)
            stamps.append(stamp_ns)
        elif stamp_ns not in stamps:
            index = bisect_right(stamps, stamp_ns)
            kept.insert(index, sample)
            stamps.insert(index, stamp_ns)
        oldest_ns = stamps[-1] - self._horizon_ns
        while len(stamps) > 1 and stamps[1] <= oldest_ns:  # one at or before the horizon stays
            del kept[0], stamps[0]

    def newest(self, kind: type[S], not_after_ns: int) -> S:
        """The newest sample of ``kind`` stamped at or before ``not_after_ns``; MissingSampleError if there is none."""
        kept = self._samples.get(kind)
        if kept:
            last = kept[-1]
            if last.stamp_ns <= not_after_ns:  # nearly always
                return last  # type: ignore[return-value]  # stored under its own type
            index = bisect_right(self._stamps[kind], not_after_ns)
            if index > 0:
                return kept[index - 1]  # type: ignore[return-value]
        raise MissingSampleError(f"no {kind.__name__} stamped at or before {not_after_ns} ns")

    def last(self, kind: type[S]) -> S | None:
        """The newest sample of ``kind``, whatever its stamp, or None."""
        kept = self._samples.get(kind)
        return kept[-1] if kept else None  # type: ignore[return-value]

    def clear(self) -> None:
        """Forget everything (a clock that jumped back, a new episode)."""
        self._samples.clear()
        self._stamps.clear()
