"""Running nodes in a process: executor, signals, exit status. Every executable ends here."""

from __future__ import annotations

import gc
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from types import FrameType, TracebackType
from typing import Any

import rclpy
from rclpy.context import Context
from rclpy.exceptions import ROSInterruptException
from rclpy.executors import Executor, ExternalShutdownException, SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.logging import get_logger
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import remove_ros_args

from dsac_robot.core.params import ParameterError
from dsac_robot.nodes.lifecycle import LifecycleParams, StackNode

try:
    from rclpy.experimental import EventsExecutor
except ImportError:  # before Kilted
    EventsExecutor = None

RCLError = rclpy_implementation.RCLError
BAD_INPUT = 2
PARENT = os.getppid()  # read early: it may end while the node is still starting
POLL_S = 0.2  # a signal is seen at the latest after this time: its Python handler runs between two spins


class StopSignals:
    """While entered, SIGINT and SIGTERM set ``received`` instead of ending the process, so that nodes can say goodbye.

    rclpy's own handlers would shut the context down first, and no node could send its last zeros.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.received = number


def make_executor(context: Context | None = None) -> Executor:
    """The EventsExecutor where there is one, else the SingleThreadedExecutor."""
    if EventsExecutor is not None:
        return EventsExecutor(context=context)
    return SingleThreadedExecutor(context=context)


def init(args: Sequence[str] | None = None, context: Context | None = None) -> None:
    """rclpy.init without signal handlers; logs go to a temporary folder where there is neither HOME nor ROS_LOG_DIR.

    Fast DDS talks over UDP alone unless FASTDDS_BUILTIN_TRANSPORTS says otherwise: after a kill -9 of the monitor the
    guard once stood still for the second that Fast DDS takes to find a reader in shared memory dead.
    """
    os.environ.setdefault("FASTDDS_BUILTIN_TRANSPORTS", "UDPv4")
    if not os.environ.get("HOME") and not os.environ.get("ROS_LOG_DIR"):
        os.environ["ROS_LOG_DIR"] = os.path.join(tempfile.gettempdir(), "ros_log")
    rclpy.init(
        args=None if args is None else list(args), context=context, signal_handler_options=SignalHandlerOptions.NO
    )


def spin_while(executor: Executor, going: Callable[[], bool], context: Context | None = None) -> None:
    """Spin while ``going()`` and the context is valid. ``EventsExecutor.spin()`` itself hangs: spin_once does not."""
    while rclpy.ok(context=context) and going():
        try:
            executor.spin_once(timeout_sec=POLL_S)
        except (ExternalShutdownException, ROSInterruptException):
            return
        except RCLError as error:
            if "context is not valid" in str(error) or not rclpy.ok(context=context):
                return
            if "transition" not in str(error):
                raise
            get_logger("dsac_robot").error(f"transition refused: {error}")  # Jazzy's rclpy lets it escape


def settle() -> None:
    """Take all that exists now out of Python's garbage collection, which else stands still for it at any moment.

    A full collection of what a node imports takes some 70 ms, more than three periods of the guard. Called when nodes
    are up, before they spin; called again it looks through everything once more.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def start(node: StackNode) -> str | None:
    """Configure and activate a node; None, or why it refused."""
    for trigger in (node.trigger_configure, node.trigger_activate):
        if trigger() != TransitionCallbackReturn.SUCCESS:
            return node.refusal or "a transition failed; see the log"
    return None


def spin(factory: Callable[[], StackNode], args: Sequence[str] | None = None) -> int:
    """The main function of a node's executable: make it, start it if it is to, spin, end cleanly.

    Exit status 0 after SIGINT, SIGTERM or a shutdown of the context; 2, with one line on stderr, for bad arguments,
    parameters or files. Other errors propagate: a node that is broken must die, and the guard or the base then stops.
    """
    arguments = list(sys.argv if args is None else args)
    with StopSignals() as signals:
        try:
            extra = remove_ros_args(arguments)[1:]
            if extra:
                return _refuse(f"unknown argument {' '.join(extra)}; nodes take ROS arguments only (--ros-args …)")
            init(arguments)
        except (RuntimeError, ValueError) as error:  # a bad argument or parameter file
            return _refuse(str(error).partition("\n")[0])
        try:
            return _spin_node(factory, signals)
        except KeyboardInterrupt:
            return 0
        finally:
            rclpy.try_shutdown()


def _spin_node(factory: Callable[[], StackNode], signals: StopSignals) -> int:
    try:
        node = factory()
    except ParameterError as error:
        return _refuse(str(error))
    params = node.values(LifecycleParams)
    executor = make_executor()
    executor.add_node(node)

    def going() -> bool:
        return signals.received is None and not (params.exit_with_parent and os.getppid() != PARENT)

    try:
        if params.autostart:
            why = start(node)
            if why is not None:
                return _refuse(why)
        settle()
        spin_while(executor, going)
        return 0
    finally:
        node.close()
        executor.shutdown()


def _refuse(why: str) -> int:
    print(f"error: {why}", file=sys.stderr)
    return BAD_INPUT
