"""A tap on the wire between the base's node and the firmware: it writes down every frame, and it can be cut."""

import contextlib
import select
import socket
import threading

from dsac_robot.core.protocol import FrameDecoder
from dsac_robot.core.protocol_enums import Direction, EventCode, State
from dsac_robot.core.protocol_fields import Message
from dsac_robot.core.protocol_messages import Event, Odom, StateReq


class LinkTap:
    """Listens on a port of its own and passes on to ``target``, one connection after the other."""

    def __init__(self, target: int) -> None:
        self._target = ("127.0.0.1", target)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"socket://127.0.0.1:{self._listener.getsockname()[1]}"
        self.to_host: list[Message] = []
        self.to_base: list[Message] = []
        self.cut = False  # True: bytes are lost, both ways, and nobody is told
        self._closing = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def odom(self) -> Odom | None:
        """The newest of the firmware's own."""
        return next((m for m in reversed(self.to_host) if isinstance(m, Odom)), None)

    @property
    def state(self) -> State | None:
        """State of the base, as it says itself."""
        return self.odom.state if self.odom else None

    def events(self, code: EventCode) -> list[Event]:
        """All events of a kind so far."""
        return [m for m in self.to_host if isinstance(m, Event) and m.code == code]

    def requests(self) -> list[StateReq]:
        """All that the host asked the base to become."""
        return [m for m in self.to_base if isinstance(m, StateReq)]

    def close(self) -> None:
        self._closing = True
        self._thread.join()
        self._listener.close()

    def _run(self) -> None:
        # One connection to the firmware for all: QEMU's end of the UART does not hear of the node's death either.
        with socket.create_connection(self._target) as base:
            node: socket.socket | None = None
            decoders = {side: FrameDecoder(side) for side in Direction}
            while not self._closing:
                ready = select.select([s for s in (self._listener, base, node) if s], [], [], 0.05)[0]
                for s in ready:
                    if s is self._listener:
                        if node is not None:
                            node.close()
                        node, _ = self._listener.accept()
                        node.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    elif s is base:
                        self._pass(base, node, self.to_host, decoders[Direction.TO_HOST])
                    elif s is node and not self._pass(node, base, self.to_base, decoders[Direction.TO_BASE]):
                        node.close()
                        node = None
            if node is not None:
                node.close()

    def _pass(
        self, source: socket.socket, sink: socket.socket | None, kept: list[Message], decoder: FrameDecoder
    ) -> bool:
        try:
            data = source.recv(4096)
        except ConnectionError:
            return False
        kept.extend(message for _, message in decoder.feed(data))
        if sink is not None and not self.cut:
            with contextlib.suppress(OSError):  # the other end is being closed
                sink.sendall(data)
        return bool(data)
