"""docs/interfaces.md, generated from the topic table, the reasons and the declared parameters.

python -m dsac_robot.nodes.interfaces > docs/interfaces.md
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

from dsac_robot.core.base_odometry import OdometryParams
from dsac_robot.core.guard_types import GuardParams
from dsac_robot.core.params import markdown_table
from dsac_robot.core.reasons import Level, OodLevel, Reason
from dsac_robot.nodes.base import BaseParams
from dsac_robot.nodes.inputs import BundleParams, RobotParams
from dsac_robot.nodes.lifecycle import LifecycleParams
from dsac_robot.nodes.policy import PolicyParams
from dsac_robot.nodes.recorder import RecorderParams
from dsac_robot.nodes.safety_guard import GuardNodeParams
from dsac_robot.nodes.topics import topics_markdown

SERVICES = (
    ("safety_guard/stop", "std_srvs/srv/Trigger", "latched emergency stop; succeeds when the latch is on"),
    ("safety_guard/reset", "std_srvs/srv/Trigger", "leaves a latched stop; fails while its cause is still there"),
    ("safety_guard/enable", "std_srvs/srv/SetBool", "false: a controlled stop until true"),
    ("safety_guard/dock", "std_srvs/srv/SetBool", "true: lower the clearance limits for `docking_s`; false: end that"),
    ("base/arm", "std_srvs/srv/Trigger", "follow commands again, after whatever ended it; activation does the same"),
    ("base/disarm", "std_srvs/srv/Trigger", "ramp to rest; commands have no effect until armed again"),
    ("base/clear", "std_srvs/srv/Trigger", "leaves the base's latched e-stop or fault; fails while its cause is there"),
    ("base/estop", "std_srvs/srv/Trigger", "drops the base's enable line and latches"),
    ("<node>/change_state …", "lifecycle_msgs/srv/ChangeState …", "the managed node's own, of every node"),
)

PARAMETERS: Mapping[str, tuple[type, ...]] = {
    "all nodes": (LifecycleParams,),
    "policy, ood_monitor, safety_guard, base": (RobotParams,),
    "policy, ood_monitor": (BundleParams,),
    "policy": (PolicyParams,),
    "safety_guard": (GuardParams, GuardNodeParams),
    "recorder": (RecorderParams,),
    "base": (BaseParams, OdometryParams),
}

HEAD = """# Interfaces

<!-- Generated: python -m dsac_robot.nodes.interfaces > docs/interfaces.md -->

All names are relative to the robot's namespace, but for those that begin with a slash. Messages are standard ones.

## Topics

"""

STATES = """
`ood/state` and `safety/state` hold one status. Its `message` is the name of the reason; its values are, in order,
`level`, `reason` (the integers below), `judged_stamp_ns` (the stamp of the policy's command that it is about; 0 in
`safety/state` while there is none) and the numbers that made it so. A verdict below `ALARM` with a number that is not
finite is dropped, as if none had come. `cmd_vel` and the `safety/state` that explains it carry the same stamp.

`base/state` has the same form: `level` 0 where the base follows commands, 3 where it does not; `judged_stamp_ns` is 0;
then `phase` of the session, `state`, `faults` and `estop_pressed` of the base, by the numbers of docs/protocol.md.

`policy/cmd_vel` is stamped as the newest scan used: this stamp pairs the command with its verdict.

Under `use_sim_time` the stamp of `cmd_vel` is ROS time, moved on by nanoseconds where needed to be later than the one
before and than the newest sample that the guard had seen.
"""

PARAMETERS_HEAD = """
## Parameters

A key that no node knows, a wrong type or a value out of range is an error that names the key; the node ends with status
2. After configure all parameters are read-only. In parameter files write `/**/policy:` (it matches in any namespace).
"""


def interfaces_markdown() -> str:
    """The whole page."""
    parts = [
        HEAD,
        topics_markdown(),
        "\n",
        STATES,
        "\n## Services\n\n| service | type | what it does |\n|---|---|---|\n",
    ]
    parts += [f"| `{name}` | {kind} | {what} |\n" for name, kind, what in SERVICES]
    parts.append("\n## Levels and reasons\n\nThe numbers are stable.\n")
    for title, enum in (("level", Level), ("monitor's level", OodLevel), ("reason", Reason)):
        parts.append(_enum_table(title, enum))
    parts.append(PARAMETERS_HEAD)
    for nodes, classes in PARAMETERS.items():
        for cls in classes:
            parts.append(f"\n### {nodes}\n\n" if cls is classes[0] else "\n")
            parts.append(markdown_table(cls) + "\n")
    return "".join(parts)


def _enum_table(title: str, enum: type[IntEnum]) -> str:
    rows = "".join(f"| {member.value} | `{member.name}` |\n" for member in enum)
    return f"\n| {title} | name |\n|---|---|\n{rows}"


if __name__ == "__main__":
    print(interfaces_markdown(), end="")
