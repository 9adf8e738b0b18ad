"""What the host asks of the base until it is answered: changes of its state, and its parameters one by one."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from dsac_robot.core.protocol import params_crc
from dsac_robot.core.protocol_enums import MAGIC_ARM, MAGIC_CLEAR, MAGIC_DISARM, MAGIC_ESTOP, Param, StateRequest
from dsac_robot.core.protocol_fields import Message
from dsac_robot.core.protocol_messages import ParamSet, StateReq
from dsac_robot.core.values import ns

REPEAT_NS = ns(0.05)  # a request without an answer
GIVE_UP_NS = ns(1.0)
MAGIC = {
    StateRequest.DISARM: MAGIC_DISARM,
    StateRequest.ARM: MAGIC_ARM,
    StateRequest.CLEAR: MAGIC_CLEAR,
    StateRequest.ESTOP: MAGIC_ESTOP,
}


def state_request(request: StateRequest, session: int) -> StateReq:
    """The message of a request, with the magic number that belongs to it."""
    return StateReq(request, MAGIC[request], session)


class Request:
    """A message that is sent every 50 ms until it has an effect, and has failed without one after 1 s."""

    def __init__(self, message: Message, now_ns: int) -> None:
        self.message, self.due_ns, self.deadline_ns = message, now_ns, now_ns + GIVE_UP_NS
        self.sequences: set[int] = set()  # of its frames, as the wire has them

    def sent(self, sequence: int, now_ns: int) -> None:
        """It goes out in a frame of this sequence."""
        self.sequences.add(sequence & 0xFF)
        self.due_ns = now_ns + REPEAT_NS


class ParamSetup:
    """Sets parameters in the order of their ids; then the CRC that the base tells of all of them must be ``crc``.

    Raises ProtocolError naming a value that is out of its parameter's range.
    """

    def __init__(self, wanted: Mapping[Param, float]) -> None:
        self.crc = params_crc(wanted)
        self._wanted = sorted(wanted.items())
        self.begin()

    def begin(self) -> None:
        """All must be set (again)."""
        self._left = list(self._wanted)
        self._verify_by_ns: int | None = None

    def next(self, session: int) -> ParamSet | None:
        """What to set now; None where all are set."""
        return ParamSet(*self._left[0], session) if self._left else None

    def took(self, value: float, now_ns: int) -> bool:
        """The base has set the next one to ``value``; False where that is not what it was asked for."""
        if struct.pack("<f", value) != struct.pack("<f", self._left[0][1]):
            return False
        del self._left[0]
        if not self._left:
            self._verify_by_ns = now_ns + GIVE_UP_NS
        return True

    @property
    def verifying(self) -> bool:
        """True where all are set, and the next STATUS tells whether the base has the same."""
        return self._verify_by_ns is not None

    def is_over(self, now_ns: int) -> bool:
        """True where that STATUS has not come for too long."""
        return self._verify_by_ns is not None and now_ns > self._verify_by_ns
