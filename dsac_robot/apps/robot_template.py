"""The text of a new robot file: every key with unit, range and meaning, from the declarations in core/robot.py."""

from __future__ import annotations

import dataclasses
import json
import typing

from dsac_robot.core.params import ParamInfo, infos
from dsac_robot.core.robot import Robot

HEAD = """\
# {name}: a robot for dsac_robot. The values are those of a made-up differential-drive base: replace each, and write in
# place of [?] from where you have it (data sheet, drawing, measured, assumed). Keys that are commented out have that
# default. Then: dsac-robot robot check {file} --png {name}.png
# SI units; base frame: x forward, y left, z up, origin on the ground, midway between the wheels.
name: {name}
"""
# A base that would work: two wheels, a caster behind, a full-turn lidar on top.
EXAMPLE: dict[str, object] = {
    "base.drive": "differential",
    "base.mass_kg": 5.0,
    "base.footprint_m": [-0.25, -0.17, 0.1, -0.17, 0.1, 0.17, -0.25, 0.17],
    "base.height_m": 0.15,
    "base.wheel_radius_m": 0.05,
    "base.wheel_mass_kg": 0.2,
    "base.wheel_width_m": 0.03,
    "base.track_m": 0.28,
    "base.com_x_m": -0.06,
    "actuation.motor_time_constant_s": 0.05,
    "actuation.wheel_torque_nm_max": 2.0,
    "actuation.action_delay_s": 0.04,
    "actuation.timeout_brake_mps2": 2.0,
    "limits.speed_mps_max": 0.8,
    "limits.speed_mps_min": -0.3,
    "limits.yaw_rate_radps_max": 2.0,
    "limits.accel_mps2_max": 1.5,
    "limits.yaw_accel_radps2_max": 6.0,
    "limits.brake_mps2": 2.0,
    "lidar.beams": 720,
    "lidar.angle_min_rad": -3.14159265,
    "lidar.angle_increment_rad": 0.00872665,
    "lidar.rate_hz": 10.0,
    "lidar.range_min_m": 0.1,
    "lidar.range_max_m": 12.0,
    "lidar.x_m": -0.05,
    "lidar.z_m": 0.2,
}
ADVICE = {  # where the meaning alone does not tell what to put in
    "actuation.side_slip_s": "some 0.02 on two wheels and a caster, 0.10 to 0.15 for skid_steer. Measure it: drive a "
    "circle at full speed; (bearing of the way less heading, outwards) / yaw rate. In simulation: side_slip of robot "
    "check, which tight turns exceed by 1.7 times",
}


def template(name: str, file: str) -> str:
    """A whole robot file that loads as it is."""
    hints = typing.get_type_hints(Robot)
    lines = [HEAD.format(name=name, file=file)]
    for field in dataclasses.fields(Robot):
        if "param" in field.metadata:
            continue
        section = hints[field.name]
        about = (section.__doc__ or "").splitlines()[0].replace("`", "")
        lines.append(f"{field.name}:  # {about}")
        lines += [_line(field.name, info) for info in infos(section)]
        lines.append("")
    return "\n".join(lines)


def _line(section: str, info: ParamInfo) -> str:
    value = EXAMPLE.get(f"{section}.{info.name}", info.default)
    given = f"{section}.{info.name}" in EXAMPLE
    start = f"  {info.name}:" if given else f"  # {info.name}:"
    allowed = " | ".join(info.choices) if info.choices else ""
    if info.low is not None:
        allowed = f"{info.low:g} to {info.high:g} {info.unit}".rstrip()
    meaning = f"{allowed}: {info.help}" if allowed else info.help
    if advice := ADVICE.get(f"{section}.{info.name}"):
        meaning += f"; {advice}"
    return f"{start} {json.dumps(value).strip(chr(34))}  # {meaning}{' [?]' if given else ''}"
