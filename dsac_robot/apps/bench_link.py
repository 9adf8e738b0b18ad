"""``dsac-robot bench link``: the wire between host and base, with the firmware as an ARM program under QEMU."""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dsac_robot.apps.figures import Figure, report, status, write_json
from dsac_robot.core.base_clock import microseconds
from dsac_robot.core.base_link import BaseLink, BaseRefusal, Expected, Phase
from dsac_robot.core.firmware_params import FIRMWARE_VERSION, firmware_params, limits_crc
from dsac_robot.core.protocol import DELIMITER, FrameDecoder, encode_frame
from dsac_robot.core.protocol_enums import Direction
from dsac_robot.core.protocol_fields import Message
from dsac_robot.core.protocol_messages import CmdWheels, LinkStats, Odom, TimeSync, TimeSyncRsp
from dsac_robot.core.robot import load_robot

BAD_INPUT = 2
COMMAND_HZ = 200.0
POLL_S = 0.001
BATCH = 50  # damaged frames between two good ones, whose answer says that all have been read
PATIENCE_S = 20.0
CROSSING_S = 0.08  # keep-alives are 0.2 s apart
BIT_ERRORS = 2e-3


def register(subparsers: Any) -> None:
    """Add the benchmark."""
    link = subparsers.add_parser("link", help="the wire to the base: loss, damage, latency, with QEMU at its end")
    link.add_argument("--robot", default="jackal", help="robot of config/robots that the firmware is built for")
    link.add_argument("--port", help="another base than QEMU: serial device, or socket://HOST:PORT")
    link.add_argument("--seconds", type=float, default=60.0, help="of commands at 200 Hz (default: 60)")
    link.add_argument("--frames", type=int, default=100_000, help="corrupted frames, each way (default: 100000)")
    link.add_argument("--seed", type=int, default=0, help="of the damage")
    link.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    link.add_argument("--strict", action="store_true", help="exit status 1 if a target is missed")
    link.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from dsac_robot.apps.firmware_qemu import FirmwareError, FirmwareInQemu, firmware_image

    try:
        if args.port:
            figures = measure(args.port, args.robot, args.seconds, args.frames, args.seed)
        else:
            with FirmwareInQemu(firmware_image(args.robot)) as firmware:
                figures = measure(firmware.link_url, args.robot, args.seconds, args.frames, args.seed)
    except (FirmwareError, OSError) as error:
        print(f"dsac-robot: {error}", file=sys.stderr)
        return BAD_INPUT
    for figure in figures:
        verdict = {True: "ok", False: "MISSED", None: ""}[figure.ok]
        print(f"{figure.name:34} {figure.value:12.6g} {figure.unit:6} {verdict}")
    write_json(args.json, report(figures, seconds=args.seconds, frames=args.frames, seed=args.seed))
    return status(figures, args.strict)


@dataclass
class Session:
    """A session on a port, carried by whoever calls ``carry``."""

    port: Any
    link: BaseLink
    sent_s: float = 0.0  # when something was sent last

    def send(self, frames: bytes) -> None:
        """Send frames, in the order in which they were made: their sequence counts."""
        if frames:
            self.sent_s = time.monotonic()
        self.port.write(frames)

    def carry(self) -> list[Message]:
        """Read and write once; returns what came. Waits up to a millisecond for something to come."""
        self.port.wait(POLL_S)
        now_ns = time.monotonic_ns()
        messages = self.link.feed(now_ns, self.port.read())
        self.send(self.link.poll(now_ns))
        return messages

    def settle(self) -> None:
        """Wait until the base has read all that was sent."""
        end_s, asked_us, answered = time.monotonic() + PATIENCE_S, -1, False
        while not answered:
            if asked_us < 0 or microseconds(time.monotonic_ns()) - asked_us > 1_000_000:
                asked_us = microseconds(time.monotonic_ns())
                self.send(DELIMITER + self.link.frame(TimeSync(asked_us)))
            answered = any(isinstance(m, TimeSyncRsp) and m.t0_us == asked_us for m in self.carry())
            if time.monotonic() > end_s:
                raise BaseRefusal(f"no answer to TIME_SYNC within {PATIENCE_S} s")

    def until(self, done: Callable[[], bool], what: str) -> None:
        """Carry until ``done()``. Raises BaseRefusal where that takes longer than 20 s."""
        end_s = time.monotonic() + PATIENCE_S
        while not done():
            self.carry()
            if time.monotonic() > end_s:
                why = self.link.refusal or self.link.stopped_because
                raise BaseRefusal(f"no {what} within {PATIENCE_S} s: {self.link.phase.name} {why}")

    def fresh_counters(self) -> tuple[LinkStats, int]:
        """The base's counters, and how many frames the host had sent to it by then.

        The base tells them once a second; one that comes soon after a frame was sent is passed over, since the two may
        have crossed.
        """
        self.settle()
        while True:
            self.link.base_counters = None
            self.until(lambda: self.link.base_counters is not None, "LINK_STATS")
            if self.link.base_counters is not None and time.monotonic() - self.sent_s > CROSSING_S:
                return self.link.base_counters, self.link.frames_sent


def open_session(url: str, robot_name: str) -> Session:
    """A session that is ready to be armed. Raises OSError."""
    from dsac_robot.nodes.base_port import open_port

    robot, rng = load_robot(robot_name), random.Random()
    link = BaseLink(
        Expected(firmware_params(robot), limits_crc(robot), None, FIRMWARE_VERSION), lambda: rng.randrange(1, 2**32)
    )
    session = Session(open_port(url, 921600), link)
    session.port.write(link.opened(time.monotonic_ns()))
    session.until(lambda: link.phase in (Phase.READY, Phase.REFUSED), "session")
    if link.phase == Phase.REFUSED:
        raise BaseRefusal(link.refusal)
    return session


def measure(url: str, robot: str, seconds: float, frames: int, seed: int) -> list[Figure]:
    """All figures, on one session after the other."""
    session = open_session(url, robot)
    try:
        return [
            *quiet_figures(session, seconds),
            *bit_error_figures(session, min(seconds, 10.0), seed),
            *corruption_figures(session, frames, seed),
        ]
    finally:
        session.port.close()


def quiet_figures(session: Session, seconds: float) -> list[Figure]:
    """Commands of 0 rad/s at 200 Hz, armed; what is lost either way, and how long round trips take."""
    link = session.link
    before_base, before = session.fresh_counters()[0], link.counters
    link.arm(time.monotonic_ns())
    session.until(lambda: link.phase == Phase.ARMED, "arming")
    stamps: list[int] = []
    trips_us: list[float] = []
    began_s = due_s = time.monotonic()
    sent_before = link.commands_sent
    while time.monotonic() < began_s + seconds:
        now_ns = time.monotonic_ns()
        if time.monotonic() >= due_s:
            due_s = max(due_s + 1.0 / COMMAND_HZ, time.monotonic() - 0.05)
            session.send(link.command(0.0, 0.0, now_ns, now_ns))
        for message in session.carry():
            if isinstance(message, Odom):
                stamps.append(message.t_us)
            elif isinstance(message, TimeSyncRsp):
                trips_us.append(link.clock.round_trip_us)
    commands = link.commands_sent - sent_before
    armed = link.phase == Phase.ARMED
    link.disarm(time.monotonic_ns())
    session.until(lambda: link.phase == Phase.READY, "end of DISARMING")
    after_base, after = session.fresh_counters()[0], link.counters
    elapsed_s = 1e-6 * (stamps[-1] - stamps[0]) if len(stamps) > 1 else float("nan")
    dropped_by_base = _dropped(after_base) - _dropped(before_base)
    return [
        Figure("quiet_lost_to_base", after_base.lost - before_base.lost, "frames", 0, at_least=False),
        Figure("quiet_lost_to_host", after.lost - before.lost, "frames", 0, at_least=False),
        Figure("quiet_damaged", after.dropped - before.dropped + dropped_by_base, "frames", 0, at_least=False),
        Figure("quiet_armed_to_the_end", float(armed), "", 1),
        Figure("quiet_commands_per_s", commands / seconds, "Hz"),
        Figure("quiet_odom_per_s_of_firmware_time", (len(stamps) - 1) / elapsed_s, "Hz"),
        Figure("round_trip_p50", 1e-3 * float(np.percentile(trips_us, 50)), "ms"),
        Figure("round_trip_p99", 1e-3 * float(np.percentile(trips_us, 99)), "ms"),
        Figure("clock_error_bound", link.clock.error_us(microseconds(time.monotonic_ns())), "us"),
    ]


def bit_error_figures(session: Session, seconds: float, seed: int) -> list[Figure]:
    """Bits flipped on the way to the base: every frame sent is then accepted, or counted as lost."""
    rng, link = np.random.default_rng(seed), session.link
    before, sent_before = session.fresh_counters()
    unsent = session.port.dropped
    end_s, hit = time.monotonic() + seconds, 0

    def damage(frames: bytes) -> bytes:
        nonlocal hit
        flips = np.packbits(rng.random(8 * len(frames)) < BIT_ERRORS)
        hit += int(np.count_nonzero(flips))
        return bytes(np.bitwise_xor(np.frombuffer(frames, np.uint8), flips))

    while time.monotonic() < end_s:
        frames = [link.frame(TimeSync(microseconds(time.monotonic_ns()))) for _ in range(BATCH)]
        session.send(damage(b"".join(frames)))
        session.settle()
    after, sent_after = session.fresh_counters()
    sent_all = sent_after - sent_before - (session.port.dropped - unsent)
    seen = (after.ok - before.ok) + (after.lost - before.lost)
    return [
        Figure("bit_errors_bytes_hit", hit, "bytes"),
        Figure("bit_errors_frames_damaged", _dropped(after) - _dropped(before), "frames"),
        Figure("bit_errors_frames_unaccounted", abs(sent_all - seen), "frames", 0, at_least=False),
    ]


def corruption_figures(session: Session, frames: int, seed: int) -> list[Figure]:
    """Frames with one to eight flipped bits, to the base and to the host; how many are taken for good."""
    rng = random.Random(seed)
    before, good_before = session.fresh_counters()
    for start in range(0, frames, BATCH):
        batch = b"".join(_corrupted(rng, start + i) for i in range(min(BATCH, frames - start)))
        session.send(batch)
        session.settle()
    after, good_after = session.fresh_counters()
    accepted = (after.ok - before.ok) - (good_after - good_before)
    decoder = FrameDecoder(Direction.TO_BASE)
    by_host = sum(len(decoder.feed(_corrupted(rng, i) + DELIMITER)) for i in range(frames))
    return [
        Figure("corrupted_frames", frames, "frames"),
        Figure("corrupted_accepted_by_base", accepted, "frames", 0, at_least=False),
        Figure("corrupted_accepted_by_host", by_host, "frames", 0, at_least=False),
    ]


def _corrupted(rng: random.Random, index: int) -> bytes:
    """A command whose encoding has one to eight flipped bits; it ends with a delimiter, whole or not."""
    message = CmdWheels(rng.randrange(-20_000, 20_000), rng.randrange(-20_000, 20_000), 1 + index % 65_535, index)
    frame = bytearray(encode_frame(message, index))
    for bit in rng.sample(range(8 * (len(frame) - 1)), rng.randint(1, 8)):
        frame[bit // 8] ^= 1 << bit % 8
    return bytes(frame)


def _dropped(counters: LinkStats) -> int:
    c = counters
    return c.bad_cobs + c.bad_crc + c.bad_length + c.unknown_type + c.bad_value + c.overflow + c.repeated
