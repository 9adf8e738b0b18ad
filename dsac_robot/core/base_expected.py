"""What the base must be before it is armed: firmware, robot, parameters. And why another one is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dsac_robot.core.protocol import check_hello
from dsac_robot.core.protocol_enums import Param
from dsac_robot.core.protocol_fields import ProtocolError
from dsac_robot.core.protocol_messages import Hello


@dataclass(frozen=True)
class Expected:
    """What the base must be before it is armed. None: any."""

    params: Mapping[Param, float]
    limits_crc: int | None = None
    build_id: bytes | None = None
    version: tuple[int, int] | None = None  # major, minor

    def why_refused(self, hello: Hello, nonce: int) -> str:
        """What of the answer to the HELLO_REQ with ``nonce`` is not as expected, and what to do; empty: nothing."""
        try:
            check_hello(hello, nonce)
        except ProtocolError as error:
            return str(error)
        version = (hello.version_major, hello.version_minor)
        if self.version is not None and version != self.version:
            return (
                f"the base runs firmware {version[0]}.{version[1]}, this host expects {self.version[0]}."
                f"{self.version[1]}: flash the firmware that belongs to this release"
            )
        if self.build_id is not None and hello.build_id != self.build_id:
            return (
                f"the base runs build {hello.build_id.hex()}, the parameter firmware_build expects "
                f"{self.build_id.hex()}: flash that build, or change the parameter"
            )
        if self.limits_crc is not None and hello.limits_crc != self.limits_crc:
            return (
                f"the base was built for limits with CRC {hello.limits_crc:#010x}, the robot file has "
                f"{self.limits_crc:#010x}: build and flash the firmware for this robot"
            )
        return ""
