"""MDP families: one task on many robots that differ in what nobody knows exactly (load, floor, latency, noise, wear).

A family is a file in ``config/families/``: a nominal robot, and for each parameter that varies the range of its true
value. Policy, monitor, guard and the base's controller keep the nominal description: only the simulated machine
changes.
"""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dsac_robot.core.files import load_yaml, share_path
from dsac_robot.core.params import ParameterError, ParamInfo, build, checked, infos, param
from dsac_robot.core.robot import Robot, check_robot, load_robot
from dsac_robot.core.values import Floats
from sim.simulator import SimParams

SPREADS_TRIED = 200  # designs of which the most even one is kept
SECTIONS = ("base", "actuation", "lidar", "imu", "odometry", "sim")
# Not of the machine: what its controller is set to, or what both sides agreed on in messages.
FIXED = {
    "base.track_multiplier": "it is the controller's; vary base.track_m, base.wheelbase_m or base.friction",
    "base.height_m": "no sensor or obstacle depends on it",
    "actuation.response_delay_s": "it is what the guard counts on, not what the machine does",
    "actuation.command_timeout_s": "it is the controller's",
    "actuation.timeout_brake_mps2": "it is the controller's",
    "lidar.angle_min_rad": "scans would not fit the robot file; vary lidar.yaw_rad",
    "lidar.angle_increment_rad": "scans would not fit the robot file",
    "lidar.rate_hz": "the policy ticks by it",
    "lidar.range_min_m": "the stack reads scans by it",
    "lidar.range_max_m": "the stack reads scans by it",
    "imu.rate_hz": "it is not uncertain",
    "odometry.rate_hz": "it is not uncertain",
    "sim.scan_period_s": "the policy ticks by it",
}


@dataclass(frozen=True)
class Range:
    """The true values that one parameter may have."""

    low: float = param(unit="", help="least value, or least multiple of the nominal one")
    high: float = param(unit="", help="largest value, or largest multiple of the nominal one")
    spread: str = param("uniform", unit="", choices=("uniform", "log"), help="even in the value, or in its logarithm")
    times_nominal: bool = param(False, unit="", help="low and high multiply the nominal value")

    def at(self, unit: float, nominal: float) -> float:
        """The value at ``unit`` of the way, 0 to 1, from low to high."""
        if self.spread == "log":
            value = math.exp(math.log(self.low) + unit * math.log(self.high / self.low))
        else:
            value = self.low + unit * (self.high - self.low)
        return nominal * value if self.times_nominal else value


@dataclass(frozen=True)
class Instance:
    """One member: the machine as it truly is, and how it came to be chosen."""

    name: str  # "nominal", "corner 1", "inside 3", "drawn 17"
    values: Mapping[str, float]  # what differs from the nominal robot
    robot: Robot
    sim: SimParams


@dataclass(frozen=True)
class Family:
    """A nominal robot and the ranges of what may differ from it."""

    name: str
    about: str
    nominal: Robot
    ranges: Mapping[str, Range]  # by dotted name, as "base.friction"

    def instance(self, name: str, values: Mapping[str, float]) -> Instance:
        """The member with these true values. Raises ParameterError for one that the family does not vary, or that no
        robot may have."""
        sections: dict[str, dict[str, float]] = {}
        for key, value in values.items():
            if key not in self.ranges:
                raise ParameterError(f"family {self.name}: {key} does not vary; it varies {', '.join(self.ranges)}")
            section, _, field = key.partition(".")
            checked(_declared(key, self.name), value, f"family {self.name}: {section}")
            sections.setdefault(section, {})[field] = value
        sim = dataclasses.replace(SimParams(), **sections.pop("sim", {}))  # type: ignore[arg-type]
        parts: dict[str, Any] = {
            section: dataclasses.replace(getattr(self.nominal, section), **fields)
            for section, fields in sections.items()
        }
        robot = check_robot(dataclasses.replace(self.nominal, **parts), f"family {self.name}, {name}")
        return Instance(name, dict(values), robot, sim)

    def at(self, name: str, units: Floats) -> Instance:
        """The member at a point of the unit cube, one coordinate for each range in its order. # (P,)"""
        pairs = zip(self.ranges.items(), units, strict=True)
        return self.instance(name, {key: span.at(float(unit), self._nominal(key)) for (key, span), unit in pairs})

    def draw(self, seed: int) -> Instance:
        """A random member, each parameter on its own. The same seed gives the same member."""
        return self.at(f"drawn {seed}", np.random.default_rng(seed).random(len(self.ranges)))

    def representative(self, count: int, seed: int = 0) -> tuple[Instance, ...]:
        """``count`` members that stand for the family, always the same ones for a seed.

        First the nominal robot. Then a quarter of ``count`` in pairs of opposite corners, where extremes act together:
        in a pair every parameter is once lowest and once highest. The rest is a Latin hypercube (McKay et al. 1979),
        which covers every parameter's range evenly with however few members. Of many such designs the one whose
        members are farthest from each other is kept (maximin; Johnson et al. 1990). Raises ParameterError below 1.
        """
        if count < 1:
            raise ParameterError(f"family {self.name}: {count} instances; it needs at least 1, the nominal robot")
        rng = np.random.default_rng(seed)
        pairs, size = (count // 8, len(self.ranges))
        corners = _most_spread(rng, lambda: _opposite_corners(rng, pairs, size))
        inside = _most_spread(rng, lambda: _latin_hypercube(rng, count - 1 - len(corners), size))
        return (
            self.instance("nominal", {}),
            *(self.at(f"corner {i + 1}", units) for i, units in enumerate(corners)),
            *(self.at(f"inside {i + 1}", units) for i, units in enumerate(inside)),
        )

    def _nominal(self, key: str) -> float:
        return nominal_value(self.nominal, key)


def nominal_value(robot: Robot, key: str) -> float:
    """What ``robot`` (or the simulator's defaults) says of a dotted name."""
    section, _, field = key.partition(".")
    return float(getattr(SimParams() if section == "sim" else getattr(robot, section), field))


def load_family(name_or_path: str | Path) -> Family:
    """The family ``config/families/NAME.yaml``, or of a file given by path (anything that ends in .yaml).

    Raises ParameterError naming the file, the key, the value and what is allowed.
    """
    text = str(name_or_path)
    if text.endswith(".yaml"):
        path = Path(text)
    else:
        known = sorted(file.stem for file in share_path("config", "families").glob("*.yaml"))
        if text not in known:
            raise ParameterError(f"unknown family {text!r}; known: {', '.join(known)}, or the path of a .yaml file")
        path = share_path("config", "families", f"{text}.yaml")
    content = load_yaml(path)
    unknown = sorted(set(content) - {"about", "robot", "ranges"})
    if unknown:
        raise ParameterError(f"{path.name}: unknown key {', '.join(unknown)}; known keys: about, robot, ranges")
    if not isinstance(content.get("robot"), str):
        raise ParameterError(f"{path.name}: robot = {content.get('robot')!r} must be a robot's name or .yaml file")
    spans = content.get("ranges")
    if not isinstance(spans, dict) or not spans:
        raise ParameterError(
            f"{path.name}: ranges = {spans!r} must be a section with a range for at least one parameter"
        )
    nominal = load_robot(content["robot"])
    ranges = {str(key): _read_range(path.name, str(key), span, nominal) for key, span in spans.items()}
    return Family(path.stem, str(content.get("about", "")), nominal, ranges)


def _declared(key: str, where: str) -> ParamInfo:
    """The declaration of a dotted name, or ParameterError saying which names there are, or why this one is fixed."""
    section, _, field = key.partition(".")
    if section not in SECTIONS:
        raise ParameterError(f"{where}: {key}: no such section; a family varies {', '.join(SECTIONS)}")
    if key in FIXED:
        raise ParameterError(f"{where}: {key} cannot vary: {FIXED[key]}")
    owner = SimParams if section == "sim" else typing.get_type_hints(Robot)[section]
    allowed = {info.name: info for info in infos(owner) if info.type is float and f"{section}.{info.name}" not in FIXED}
    if field not in allowed:
        raise ParameterError(f"{where}: {key} cannot vary; of {section} these can: {', '.join(allowed)}")
    return allowed[field]


def _read_range(where: str, key: str, span: object, nominal: Robot) -> Range:
    declared = _declared(key, where)
    if not isinstance(span, dict):
        raise ParameterError(f"{where}: {key} = {span!r} must be a section such as {{low: 0.5, high: 1.0}}")
    found = build(Range, span, f"{where}: {key}")
    if found.low > found.high:
        raise ParameterError(f"{where}: {key}: low = {found.low} must not exceed high = {found.high}")
    if found.spread == "log" and found.low <= 0.0:
        raise ParameterError(f"{where}: {key}: low = {found.low} must be above 0 for spread: log")
    value = nominal_value(nominal, key)
    if found.times_nominal and value == 0.0:
        raise ParameterError(f"{where}: {key}: the nominal value is 0, which no factor changes; give values instead")
    for unit in (0.0, 1.0):
        checked(declared, found.at(unit, value), f"{where}: {key.partition('.')[0]}")
    return found


def _opposite_corners(rng: np.random.Generator, pairs: int, size: int) -> Floats:
    """Corners of the unit cube and their opposites. # (2 * pairs, size)"""
    corners = rng.integers(0, 2, (pairs, size)).astype(np.float64)
    return np.stack([corners, 1.0 - corners], axis=1).reshape(-1, size)


def _latin_hypercube(rng: np.random.Generator, count: int, size: int) -> Floats:
    """Points of which each coordinate falls once into each of ``count`` equal parts. # (count, size)"""
    parts = np.stack([rng.permutation(count) for _ in range(size)], axis=1)
    return (parts + rng.random((count, size))) / max(count, 1)


def _most_spread(rng: np.random.Generator, design: Callable[[], Floats]) -> Floats:
    """Of many random designs, the one whose nearest two points are farthest apart."""
    best, best_gap = design(), -1.0
    if len(best) < 2:
        return best
    for _ in range(SPREADS_TRIED):
        points = design()
        apart = np.linalg.norm(points[:, None] - points[None], axis=2) + 1e9 * np.eye(len(points))
        if apart.min() > best_gap:
            best, best_gap = points, float(apart.min())
    return best
