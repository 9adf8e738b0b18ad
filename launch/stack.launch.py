"""The managed nodes of the stack, brought up in order and ended in reverse, for robot, sim and replay.launch.py.

Up: recorder, base, guard, monitor, policy, each configured and activated before the next. Down, on Ctrl-C or when any
of them ends or refuses a transition: policy, monitor, guard, what stands in for the robot, recorder, each ended before
the next is told, so that the guard outlives what it guards and the recorder sees it all.

Nodes run in sessions of their own (setsid): the terminal's Ctrl-C reaches launch alone, which ends them in order. They
end by themselves when launch is gone (exit_with_parent), since launch leaves orphans behind on SIGTERM.
"""

import asyncio
import time
from pathlib import Path
from signal import SIGINT

from launch import Event, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    LogInfo,
    OpaqueCoroutine,
    OpaqueFunction,
    RegisterEventHandler,
)
from launch.event_handler import EventHandler
from launch.event_handlers import OnProcessExit, OnProcessStart, OnShutdown
from launch.events import matches_action
from launch.events.process import ShutdownProcess, SignalProcess
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.ros_adapters import get_ros_node
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState

PACKAGE = "dsac_robot"
CONFIG = Path(__file__).resolve().parent.parent / "config"
# In sessions of their own; with time for all to end one after another (launch's own timeout is 5 s).
HOW = {"prefix": "setsid", "output": "screen", "sigterm_timeout": "10"}
CONFIGURE = Transition(id=Transition.TRANSITION_CONFIGURE, label="configure")
ACTIVATE = Transition(id=Transition.TRANSITION_ACTIVATE, label="activate")
STATES = range(State.PRIMARY_STATE_UNCONFIGURED, State.PRIMARY_STATE_FINALIZED + 1)
POLL_S = 0.02
RESPONSE_S = 2.0
SWITCH = ["true", "false"]
LOG_LEVELS = ["debug", "info", "warn", "error", "fatal"]

ARGUMENTS = [
    DeclareLaunchArgument(
        "robot", default_value="jackal", description="robot of config/robots, or the path of a .yaml file"
    ),
    DeclareLaunchArgument(
        "bundle", default_value="navigate_jackal", description="bundle of config/bundles, or the path of a directory"
    ),
    DeclareLaunchArgument("namespace", default_value="", description="namespace of all nodes and topics; empty: none"),
    DeclareLaunchArgument(
        "use_sim_time", default_value="false", choices=SWITCH, description="take the time from /clock"
    ),
    DeclareLaunchArgument(
        "log_level", default_value="info", choices=LOG_LEVELS, description="least severity that is logged"
    ),
    DeclareLaunchArgument(
        "guard_profile",
        default_value="dynamic",
        choices=["dynamic", "static"],
        description="the guard's assumption: obstacles move (dynamic) or stand still (static)",
    ),
    DeclareLaunchArgument("record", default_value="true", choices=SWITCH, description="record a bag, below ./bags"),
    DeclareLaunchArgument(
        "cmd_vel_type",
        default_value="TwistStamped",
        choices=["TwistStamped", "Twist"],
        description="message type of cmd_vel that the base expects",
    ),
    DeclareLaunchArgument(
        "params_file",
        default_value="",
        description="parameter file that comes after those of config/ (these arguments come after it); empty: none",
    ),
]


class InOrder:
    """Makes a process deaf to launch's own SIGINT, which goes to all at once: ``Sequence`` sends it instead."""

    def _shutdown_process(self, context, *, send_sigint):
        return super()._shutdown_process(context, send_sigint=False)


class OrderedNode(InOrder, LifecycleNode):
    """A managed node that ends in its turn."""


class OrderedProcess(InOrder, ExecuteProcess):
    """Another process that ends in its turn."""


class Up(Event):
    """All nodes are active."""


class Managed:
    """The lifecycle services of one node, as launch uses them.

    launch_ros' own events for this wait for good where a response or a transition's message is lost, as happens while
    processes still discover each other. Here a call without a response is repeated, and the node's state decides.
    """

    def __init__(self, ros_node, name, pause):
        self.name, self._pause = name, pause
        self._get = ros_node.create_client(GetState, f"{name}/get_state")
        self._change = ros_node.create_client(ChangeState, f"{name}/change_state")

    async def reach(self, transition, goal):
        """Make a transition. Raises RuntimeError naming the node where it does not lead to the goal state."""
        start = state = await self._state()
        response = None
        while state != goal:
            if response is not None or state != start:
                raise RuntimeError(f"{self.name} refused to {transition.label}: see its log")
            response = await self._call(self._change, ChangeState.Request(transition=transition))
            state = await self._state()

    async def _state(self):
        """The id of the node's state once it is in none of those that it only passes through."""
        while True:
            response = await self._call(self._get, GetState.Request())
            if response is not None and response.current_state.id in STATES:
                return response.current_state.id

    async def _call(self, client, request):
        """The response, or None where there is none in time."""
        while not client.service_is_ready():
            await self._pause()
        future, end_s = client.call_async(request), time.monotonic() + RESPONSE_S
        while not future.done():
            if time.monotonic() > end_s:
                client.remove_pending_request(future)
                return None
            await self._pause()
        return future.result()


class Sequence:
    """Brings managed nodes up in order; ends processes in order; ends all when one ends.

    There is no Shutdown action here: after Ctrl-C its event would be the second, with which launch returns 1. Launch
    ends by itself once nothing runs. An exception is what lets it return 1 after a failure.
    """

    def __init__(self, bring_up, end, once_up=()):
        self.bring_up = list(bring_up)  # LifecycleNodes, first to be active first
        self.end = list(end)  # all processes, first to end first
        self.once_up = list(once_up)  # processes that start when all nodes are active
        self.running = []
        self.told = []  # to end
        self.stopping = False

    def actions(self):
        once_up = [LogInfo(msg="all nodes are active"), *self.once_up]
        handlers = [
            EventHandler(matcher=lambda event: isinstance(event, Up) and event.sequence is self, entities=once_up),
            OnProcessStart(on_start=self._on_start),
            OnProcessExit(on_exit=self._on_exit),
            OnShutdown(on_shutdown=lambda event, context: self._stop()),
        ]
        at_once = [process for process in reversed(self.end) if process not in self.once_up]
        return [*map(RegisterEventHandler, handlers), *at_once, OpaqueCoroutine(coroutine=self._bring_up)]

    async def _bring_up(self, context):
        try:
            nodes = [Managed(get_ros_node(context), action.node_name, self._pause) for action in self.bring_up]
            for node in nodes:
                await node.reach(CONFIGURE, State.PRIMARY_STATE_INACTIVE)
                await node.reach(ACTIVATE, State.PRIMARY_STATE_ACTIVE)
        except asyncio.CancelledError:  # launch would take a task that was cancelled for a failure
            return
        up = Up()
        up.sequence = self
        context.emit_event_sync(up)

    async def _pause(self):
        await asyncio.sleep(POLL_S)
        if self.stopping:
            raise asyncio.CancelledError

    def _on_start(self, event, context):
        if event.action in self.end:
            self.running.append(event.action)
        return self._end_next() if self.stopping else None

    def _on_exit(self, event, context):
        if event.action not in self.end:
            return None
        self.running.remove(event.action)
        if event.returncode != 0 and not self.stopping:
            raise RuntimeError(f"{event.process_name} ended with {event.returncode}")
        return self._stop()

    def _stop(self):
        self.stopping = True
        return self._end_next()

    def _end_next(self):
        """Tell the first process that still runs to end, once; its end brings the next one's turn."""
        process = next((process for process in self.end if process in self.running), None)
        if process is None or process in self.told:
            return None
        self.told.append(process)
        matcher = matches_action(process)
        # The first arms SIGTERM and SIGKILL, if a Shutdown event has not done so already.
        events = [
            ShutdownProcess(process_matcher=matcher),
            SignalProcess(signal_number=SIGINT, process_matcher=matcher),
        ]
        return [EmitEvent(event=event) for event in events]


def setup(context):
    """Make the processes from the launch arguments."""

    def argument(name):
        return LaunchConfiguration(name).perform(context)

    def text(name):
        return ParameterValue(argument(name), value_type=str)

    def node(executable, config=None, **parameters):
        files = [str(CONFIG / config)] if config else []
        files += [argument("params_file")] if argument("params_file") else []
        always = {"use_sim_time": argument("use_sim_time") == "true", "exit_with_parent": True}
        return OrderedNode(
            package=PACKAGE,
            executable=executable,
            name=executable,
            exec_name=executable,
            namespace=argument("namespace"),
            parameters=[*files, {**always, "cmd_vel_type": text("cmd_vel_type"), **parameters}],
            ros_arguments=["--log-level", argument("log_level")],
            **HOW,
        )

    base_kind = LaunchConfiguration("base", default="robot").perform(context)
    robot, bundle = text("robot"), text("bundle")
    guard_config = {"dynamic": "safety_guard_dynamic.yaml", "static": "safety_guard_static.yaml"}
    guard = node("safety_guard", guard_config[argument("guard_profile")], robot=robot)
    monitor = node("ood_monitor", "ood_monitor.yaml", robot=robot, bundle=bundle)
    policy = node("policy", "policy.yaml", robot=robot, bundle=bundle)
    recorder = [node("recorder", "recorder.yaml", bundle=bundle)] if argument("record") == "true" else []
    base, managed, once_up = [], [], []
    if base_kind == "sim":
        base = [node("sim_bridge", robot=robot, world=text("world"), use_sim_time=False)]
    elif base_kind == "firmware":
        base = managed = [node("base", "base.yaml", robot=robot, port=text("base_port"))]
    elif base_kind == "replay":
        target = "--to-namespace=" + argument("namespace")
        command = ["dsac-robot", "bag", "replay", argument("bag"), "--rate", argument("rate"), target]
        base = once_up = [OrderedProcess(cmd=command, name="replay", **HOW)]
    up, down = [*recorder, *managed, guard, monitor, policy], [policy, monitor, guard, *base, *recorder]
    return Sequence(up, down, once_up).actions()


def generate_launch_description():
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=setup)])
