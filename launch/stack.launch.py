"""The managed nodes of the stack, brought up in order and ended in reverse; robot, sim and replay.launch.py include it.

Up: recorder, guard, monitor, policy, each configured and activated before the next. Down, on Ctrl-C or when any of them
ends or refuses a transition: policy, monitor, guard, what stands in for the robot, recorder, each ended before the next
is told, so that the guard outlives what it guards and the recorder sees it all.

Nodes run in sessions of their own (setsid): the terminal's Ctrl-C reaches launch alone, which ends them in order. They
end by themselves when launch is gone (exit_with_parent), since launch leaves orphans behind on SIGTERM.
"""

from pathlib import Path
from signal import SIGINT

from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
)
from launch.event_handler import EventHandler
from launch.event_handlers import OnProcessExit, OnProcessStart, OnShutdown
from launch.events import matches_action
from launch.events.process import ShutdownProcess, SignalProcess
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode
from launch_ros.events.lifecycle import ChangeState, StateTransition
from launch_ros.parameter_descriptions import ParameterValue
from lifecycle_msgs.msg import Transition

PACKAGE = "dsac_robot"
CONFIG = Path(__file__).resolve().parent.parent / "config"
# In sessions of their own; with time for all to end one after another (launch's own timeout is 5 s).
HOW = {"prefix": "setsid", "output": "screen", "sigterm_timeout": "10"}
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


class Sequence:
    """Brings managed nodes up in order; ends processes in order; ends all when one ends.

    There is no Shutdown event of our own: it would signal all processes at once, and after Ctrl-C it would be the
    second, with which launch returns 1. When the last process has ended, launch is idle and ends. After a failure it
    is made to return 1.
    """

    def __init__(self, bring_up, end, once_up=()):
        self.bring_up = list(bring_up)  # LifecycleNodes that are not active yet; the first is in transition
        self.end = list(end)  # all processes, first to end first
        self.once_up = list(once_up)  # processes that start when all nodes are active
        self.running = []
        self.told = []  # to end
        self.stopping = False
        self.failure = None

    def actions(self):
        handlers = [
            EventHandler(matcher=self._is_transition, entities=[OpaqueFunction(function=self._on_transition)]),
            OnProcessStart(on_start=self._on_start),
            OnProcessExit(on_exit=self._on_exit),
            OnShutdown(on_shutdown=self._on_shutdown),
        ]
        at_once = [process for process in reversed(self.end) if process not in self.once_up]
        return [*map(RegisterEventHandler, handlers), *at_once, self._change(Transition.TRANSITION_CONFIGURE)]

    def _change(self, transition):
        matcher = matches_action(self.bring_up[0])
        return EmitEvent(event=ChangeState(lifecycle_node_matcher=matcher, transition_id=transition))

    def _is_transition(self, event):
        return isinstance(event, StateTransition) and event.action in self.end

    def _on_transition(self, context):
        """One step of the bring-up. Once a node is up, its transitions are the operator's."""
        event = context.locals.event
        if self.stopping or not self.bring_up or event.action is not self.bring_up[0]:
            return None
        if (event.start_state, event.goal_state) == ("configuring", "inactive"):
            return [self._change(Transition.TRANSITION_ACTIVATE)]
        if event.goal_state == "active":
            self.bring_up.pop(0)
            if self.bring_up:
                return [self._change(Transition.TRANSITION_CONFIGURE)]
            return [LogInfo(msg="all nodes are active"), *self.once_up]
        if event.goal_state in ("unconfigured", "inactive", "finalized"):
            return self._stop(f"{event.action.node_name} refused while {event.start_state}: see its log")
        return None

    def _on_start(self, event, context):
        if event.action in self.end:
            self.running.append(event.action)
        return self._end_next() if self.stopping else None

    def _on_exit(self, event, context):
        if event.action not in self.end:
            return None
        self.running.remove(event.action)
        died = event.returncode != 0 and not self.stopping
        following = self._stop(f"{event.process_name} ended with {event.returncode}" if died else None)
        if self.failure and not self.running:
            raise RuntimeError(self.failure)  # the only way to let launch return 1
        return following

    def _on_shutdown(self, event, context):
        return self._stop()

    def _stop(self, failure=None):
        self.stopping = True
        self.failure = self.failure or failure
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
    base, once_up = [], []
    if base_kind == "sim":
        base = [node("sim_bridge", robot=robot, world=text("world"), use_sim_time=False)]
    elif base_kind == "replay":
        target = "--to-namespace=" + argument("namespace")
        command = ["dsac-robot", "bag", "replay", argument("bag"), "--rate", argument("rate"), target]
        base = once_up = [OrderedProcess(cmd=command, name="replay", **HOW)]
    return Sequence([*recorder, guard, monitor, policy], [policy, monitor, guard, *base, *recorder], once_up).actions()


def generate_launch_description():
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=setup)])
