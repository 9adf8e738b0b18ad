"""The thread that carries bytes between the port and the session (core/base_link.py), and opens the port again."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event, Lock, Thread

from dsac_robot.core.base_clock import Backoff
from dsac_robot.core.base_link import BaseLink, BaseRefusal, Phase
from dsac_robot.core.protocol_fields import Message
from dsac_robot.nodes.base_port import Port, PortError, open_port

POLL_S = 0.005
CHECK_S = 0.002
STOPPED = "the node was stopped"  # why a connection is closed that nothing is wrong with

OnMessages = Callable[[list[Message], int], None]


class BaseDriver:
    """Runs a session on a port, in a thread of its own, until ``stop``.

    ``on_messages`` gets what the base sent and the steady time at which it came, ``on_phase`` each new phase; both are
    called in the driver's thread. The other methods may be called from any thread.
    """

    def __init__(
        self, port: str, baud: int, link: BaseLink, on_messages: OnMessages, on_phase: Callable[[Phase, str], None]
    ) -> None:
        self._name, self._baud, self.link = port, baud, link
        self._on_messages, self._on_phase = on_messages, on_phase
        self._lock, self._stopping = Lock(), Event()
        self._port: Port | None = None
        self._told: tuple[Phase, str] = (Phase.CLOSED, "")
        self.tries = 0  # to open the port
        self.frames_dropped = 0
        self._thread = Thread(target=self._run, name="base link", daemon=True)

    def start(self) -> None:
        """Begin to connect."""
        self._thread.start()

    def check(self) -> None:
        """Raise RuntimeError where the thread has died: a node that is broken must end, and the base then stops."""
        if not self._thread.is_alive() and not self._stopping.is_set():
            raise RuntimeError("the thread of the base link has died; its error is on stderr")

    def stop(self) -> None:
        """Close the port and end the thread."""
        self._stopping.set()
        self._thread.join()

    def command(self, left_radps: float, right_radps: float, decided_ns: int) -> None:
        """Send a wheel command that was decided at that steady time, if the session is armed."""
        with self._lock:
            self._write(self.link.command(left_radps, right_radps, decided_ns, time.monotonic_ns()))

    def arm(self, timeout_s: float) -> None:
        """Wait until the session is ready, arm it, and wait until it is. Raises BaseRefusal saying why it cannot be."""
        end_s = time.monotonic() + timeout_s
        while self.link.phase != Phase.ARMED:
            with self._lock:
                why = self.link.why_not_armable
                if not why:
                    self.link.arm(time.monotonic_ns())
                    break
            if self.link.phase == Phase.REFUSED or time.monotonic() > end_s:
                raise BaseRefusal(why)
            self.check()
            time.sleep(CHECK_S)
        while self.link.phase == Phase.ARMING:
            self.check()
            time.sleep(CHECK_S)
        if self.link.phase != Phase.ARMED:
            raise BaseRefusal(self.link.stopped_because or "the base was armed and stopped at once")

    def disarm(self, timeout_s: float) -> bool:
        """Bring the base to rest; False where it did not say so in time."""
        with self._lock:
            self.link.disarm(time.monotonic_ns())
        return self._wait(lambda: self.link.phase != Phase.DISARMING, timeout_s)

    def clear(self, timeout_s: float) -> bool:
        """Ask the base to leave ESTOP or FAULT; True where it did. Raises BaseRefusal where it cannot be asked."""
        with self._lock:
            self.link.clear(time.monotonic_ns())
        return self._wait(lambda: not self.link.latched, timeout_s)

    def estop(self) -> None:
        """Drop the base's enable line."""
        with self._lock:
            self._write(self.link.estop())

    def _wait(self, done: Callable[[], bool], timeout_s: float) -> bool:
        end_s = time.monotonic() + timeout_s
        while not done() and time.monotonic() < end_s:
            time.sleep(CHECK_S)
        return done()

    # In the thread.

    def _run(self) -> None:
        backoff = Backoff()
        while not self._stopping.is_set():
            try:
                self._connect()
                while not self._stopping.is_set():
                    if self._carry():
                        backoff.succeeded()
            except PortError as error:
                self._close(str(error))
                self._stopping.wait(backoff.failed())
        self._close(STOPPED)

    def _connect(self) -> None:
        self.tries += 1
        port = open_port(self._name, self._baud)
        with self._lock:
            self._port = port
            self._write(self.link.opened(time.monotonic_ns()))

    def _carry(self) -> bool:
        """Move what there is to move; True where the base has said something."""
        assert self._port is not None
        self._port.wait(POLL_S)
        with self._lock:
            now_ns = time.monotonic_ns()
            messages = self.link.feed(now_ns, self._port.read())
            self._write(self.link.poll(now_ns))
        if messages:
            self._on_messages(messages, now_ns)
        self._tell()
        return bool(messages)

    def _close(self, why: str) -> None:
        with self._lock:
            self.link.closed(why)
            if self._port is not None:
                self.frames_dropped += self._port.dropped
                self._port.close()
                self._port = None
        self._tell(why)

    def _tell(self, why: str = "") -> None:
        now = (self.link.phase, why or self.link.refusal or self.link.stopped_because)
        if now != self._told:
            self._told = now
            self._on_phase(*now)

    def _write(self, frames: bytes) -> None:
        """Under the lock. A port that is gone is seen by the thread when it reads."""
        if self._port is not None:
            try:
                self._port.write(frames)
            except PortError:
                return
