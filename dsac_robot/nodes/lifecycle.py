"""The base of all nodes: a managed node with declared parameters, the topic table, steady timers and diagnostics.

A node overrides ``configure``, ``activate``, ``deactivate`` and ``cleanup``. Whatever it makes with ``publisher``,
``subscribe``, ``steady_timer`` and ``service`` lives from configure to cleanup. To refuse a transition, raise one of
``REFUSALS``: its message is logged in one line, and a node started with ``autostart`` ends with status 2. A node that
refused to configure says why on /diagnostics until it is configured or ends.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, JumpThreshold
from rclpy.clock_type import ClockType
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.publisher import Publisher
from rclpy.timer import Timer

from dsac_robot.bundle.errors import BundleError
from dsac_robot.core.params import ParameterError, checked, infos, param
from dsac_robot.nodes.converters import ConversionError
from dsac_robot.nodes.declare import declare, values
from dsac_robot.nodes.topics import DIAGNOSTICS, Topic

P = TypeVar("P")
REFUSALS = (ParameterError, BundleError, OSError)


@dataclass(frozen=True)
class LifecycleParams:
    """Parameters of every node."""

    autostart: bool = param(False, unit="", help="configure and activate at start, without a lifecycle manager")
    exit_with_parent: bool = param(
        False, unit="", help="end when the process that started the node ends (launch files set it)"
    )


class StackNode(LifecycleNode):
    """A managed node of the stack.

    ``parameter_classes`` declare its parameters; ``live`` names those that may be set after configure. ``arguments``
    are ROS arguments of this node alone (``["--ros-args", "-r", "__ns:=/robot1"]``). Raises ParameterError naming the
    key for an unknown or bad parameter.
    """

    def __init__(
        self,
        name: str,
        *parameter_classes: type,
        live: tuple[str, ...] = (),
        arguments: list[str] | None = None,
        context: Any = None,
    ) -> None:
        super().__init__(
            name, context=context, cli_args=arguments, automatically_declare_parameters_from_overrides=True
        )
        self.refusal: str | None = None  # why the last transition was refused
        self.active = False
        self._configured = False
        self._live = live
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._undo: list[Callable[[], Any]] = []
        self.parameter_classes = (LifecycleParams, *parameter_classes)
        self._infos = {info.name: info for cls in self.parameter_classes for info in infos(cls)}
        try:
            declare(self, self.parameter_classes)
        except ParameterError:
            self.destroy_node()
            raise
        self.add_on_set_parameters_callback(self._on_set_parameters)

    # What a node overrides.

    def configure(self) -> None:
        """Read parameters and files, make publishers, subscriptions and timers."""

    def activate(self) -> None:
        """Begin to act."""

    def deactivate(self) -> None:
        """Cease to act. Called before the node stops for whatever reason, if it was active."""

    def cleanup(self) -> None:
        """Free what ``configure`` made, beyond what the base frees."""

    # What a node uses.

    def values(self, cls: type[P]) -> P:
        """The current values of the parameters that ``cls`` declares."""
        return values(self, cls)

    def now_ns(self) -> int:
        """ROS time: sim time under use_sim_time."""
        return int(self.get_clock().now().nanoseconds)

    def steady_ns(self) -> int:
        """Time of the steady clock, which runs whatever /clock does."""
        return int(self._steady.now().nanoseconds)

    def publisher(self, topic: Topic) -> Publisher:
        """A publisher of a row of the topic table."""
        made = self.create_publisher(topic.type, topic.name, topic.qos)
        self._undo.append(lambda: self.destroy_publisher(made))
        return made

    def subscribe(self, topic: Topic, callback: Callable[[Any], None]) -> None:
        """Subscribe to a topic. Where ``callback`` raises ConversionError, it is logged and the message dropped."""

        current = self._until_cleanup()

        def guarded(message: Any) -> None:
            try:
                if current:
                    callback(message)
            except ConversionError as error:
                self.get_logger().error(f"{topic.name}: message dropped: {error}", throttle_duration_sec=2.0)

        made = self.create_subscription(topic.type, topic.name, guarded, topic.qos)
        self._undo.append(lambda: self.destroy_subscription(made))

    def steady_timer(self, period_s: float, callback: Callable[[], None]) -> Timer:
        """A timer on the steady clock."""
        current = self._until_cleanup()
        made = self.create_timer(period_s, lambda: callback() if current else None, clock=self._steady)
        self._undo.append(lambda: self.destroy_timer(made))
        return made

    def _until_cleanup(self) -> list[bool]:
        """True (not empty) until cleanup: an executor may have taken up an event before it, and run it after."""
        current = [True]
        self._undo.append(current.clear)
        return current

    def service(self, service_type: Any, name: str, callback: Callable[[Any, Any], Any]) -> None:
        """A service, by convention private (``~/stop``)."""
        made = self.create_service(service_type, name, callback)
        self._undo.append(lambda: self.destroy_service(made))

    def at_cleanup(self, undo: Callable[[], Any]) -> None:
        """Call ``undo`` when the node is cleaned up, last made first."""
        self._undo.append(undo)

    def on_clock_jump_back(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` whenever ROS time has jumped back (a simulation or bag that starts again)."""
        threshold = JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=False)
        handle = self.get_clock().create_jump_callback(threshold, post_callback=lambda jump: callback())
        self._undo.append(handle.unregister)

    def diagnose(self, period_s: float, status: Callable[[], DiagnosticStatus]) -> None:
        """Publish ``status()`` on /diagnostics with this period, under the node's full name."""
        self.steady_timer(period_s, self.diagnoser(status))

    def diagnoser(self, status: Callable[[], DiagnosticStatus]) -> Callable[[], None]:
        """What publishes ``status()`` on /diagnostics when called, under the node's full name."""
        publisher = self.publisher(DIAGNOSTICS)

        def publish() -> None:
            message = DiagnosticArray(status=[status()])
            message.header.stamp = self.get_clock().now().to_msg()
            message.status[0].name = f"{self.get_fully_qualified_name()}: {message.status[0].name}"
            publisher.publish(message)

        return publish

    # Transitions of the lifecycle.

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._free()  # what an earlier refusal left
        with self._reported("configure"):
            self.configure()
            self._configured = True
            return super().on_configure(state)
        self._free()
        self.diagnose(1.0, self._refused)
        return TransitionCallbackReturn.FAILURE

    def _refused(self) -> DiagnosticStatus:
        """Said until the node is configured, or ends."""
        message = f"refused to configure: {self.refusal}"
        return DiagnosticStatus(level=DiagnosticStatus.ERROR, name=self.get_name(), message=message)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        with self._reported("activate"):
            self.activate()
            self.active = True
            return super().on_activate(state)
        return TransitionCallbackReturn.FAILURE

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._stop()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._free()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._stop()
        self._free()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._stop()
        self._free()
        return super().on_error(state)

    def close(self) -> None:
        """Deactivate, clean up and destroy the node. May be called twice."""
        self._stop()
        self._free()
        self.destroy_node()

    def _stop(self) -> None:
        if self.active:
            self.active = False
            with self._reported("deactivate"):
                self.deactivate()

    def _free(self) -> None:
        if self._configured:
            self._configured = False
            with self._reported("clean up"):
                self.cleanup()
        while self._undo:
            self._undo.pop()()

    @contextmanager
    def _reported(self, verb: str) -> Iterator[None]:
        """Log why a transition fails: rclpy swallows exceptions of transition callbacks without a word."""
        try:
            yield
        except REFUSALS as error:
            self.refusal = str(error)
            self.get_logger().error(f"refused to {verb}: {error}")
        except BaseException:
            self.get_logger().fatal(f"failed to {verb}:\n{traceback.format_exc()}")
            raise

    def _on_set_parameters(self, parameters: list[Parameter]) -> SetParametersResult:
        for parameter in parameters:
            info = self._infos.get(parameter.name)
            if info is None:  # rclpy's own
                continue
            if self._configured and parameter.name not in self._live:
                reason = f"{parameter.name} is read-only after configure: clean the node up first"
                return SetParametersResult(successful=False, reason=reason)
            try:
                checked(info, parameter.value, self.get_fully_qualified_name())
            except ParameterError as error:
                return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)


def value_pairs(**pairs: object) -> list[KeyValue]:
    """KeyValues of a diagnostic status."""
    return [KeyValue(key=key, value=str(value)) for key, value in pairs.items()]


def percentile(seconds: Collection[float], percent: float) -> str:
    """A percentile of times as text with microseconds; "nan" where there is none yet."""
    return f"{np.percentile(list(seconds), percent) if seconds else np.nan:.6f}"
