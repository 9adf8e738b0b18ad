"""Wheel commands as the base gets them: fresh ones only, in the order of its own clock, in its units."""

from __future__ import annotations

import math
from collections import Counter

from dsac_robot.core.base_clock import ClockSync, microseconds
from dsac_robot.core.protocol_enums import COMMAND_AGE_S_MAX, COMMAND_HZ_MIN
from dsac_robot.core.protocol_messages import CmdWheels
from dsac_robot.core.values import ns

HOLD_NS = ns(1.0 / COMMAND_HZ_MIN)
SPEED_MRADPS_MAX = 200_000


class WheelCommands:
    """What is commanded in one session after the other; counts what is ``sent`` and, by reason, what is ``dropped``."""

    def __init__(self) -> None:
        self.sent = 0
        self.dropped: Counter[str] = Counter()
        self.holding = True  # nobody has commanded yet since the base was armed: zeros keep it so
        self.begin(0, ClockSync())

    def begin(self, session: int, clock: ClockSync) -> None:
        """A new session, and the clock that it learns."""
        self._session, self._clock = session, clock
        self._last_stamp_us, self._hold_due_ns = -1, 0

    def hold(self, now_ns: int) -> CmdWheels | None:
        """Zeros every 20 ms as long as it is ``holding``; None where none are due."""
        if not self.holding or now_ns < self._hold_due_ns:
            return None
        self._hold_due_ns = now_ns + HOLD_NS
        return self._message(0.0, 0.0, now_ns)

    def command(self, left_radps: float, right_radps: float, decided_ns: int, now_ns: int) -> CmdWheels | None:
        """The message of a command that is finite, fresh and later than all before; None for another."""
        if not (math.isfinite(left_radps) and math.isfinite(right_radps)):
            self.dropped["not_finite"] += 1
        elif not 0 <= now_ns - decided_ns <= ns(COMMAND_AGE_S_MAX):
            self.dropped["stale" if decided_ns < now_ns else "from_future"] += 1
        else:
            self.holding = False
            return self._message(left_radps, right_radps, decided_ns)
        return None

    def _message(self, left_radps: float, right_radps: float, decided_ns: int) -> CmdWheels | None:
        stamp_us = self._clock.to_base_us(microseconds(decided_ns))
        if stamp_us <= self._last_stamp_us:
            self.dropped["out_of_order"] += 1
            return None
        self._last_stamp_us = stamp_us
        self.sent += 1
        left, right = (max(-SPEED_MRADPS_MAX, min(SPEED_MRADPS_MAX, round(1e3 * v))) for v in (left_radps, right_radps))
        return CmdWheels(left, right, self._session, stamp_us)
