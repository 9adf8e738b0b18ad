"""The card: the contract between a trained policy and the robot that runs it, and the record of where it came from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from dsac_robot.bundle import strict_json
from dsac_robot.bundle.errors import BundleError
from dsac_robot.core.action import ActionMap
from dsac_robot.core.observation import ObservationBuilder, ObservationLayout, TermSpec
from dsac_robot.core.ood import MonitorSpec
from dsac_robot.core.params import ParameterError
from dsac_robot.core.robot import Robot

CARD_VERSION = 1
OLDEST_CARD_VERSION = 1  # tests/golden holds a bundle of each version from this one on, which must load and reproduce
CARD_FILE = "card.json"
TERM_ELEMENTS_MAX = 1_000_000  # a card must not make the robot run out of memory
PERIOD_TOLERANCE = 0.1  # the lidar's scans must allow the control period within this fraction


@dataclass(frozen=True)
class CardLidar:
    """What the policy assumes of the scan. All of it must match the robot."""

    beams: int
    angle_min_rad: float
    angle_increment_rad: float
    range_min_m: float
    range_max_m: float
    x_m: float
    y_m: float
    z_m: float
    yaw_rad: float
    zero_means: str

    @classmethod
    def of(cls, robot: Robot) -> CardLidar:
        """The lidar of a robot description."""
        return cls(**{f.name: getattr(robot.lidar, f.name) for f in fields(cls)})


@dataclass(frozen=True)
class CardGeometry:
    """The body and wheels that the policy was trained with. All of it must match the robot."""

    drive: str
    footprint_m: tuple[float, ...]
    wheel_radius_m: float
    track_m: float
    wheelbase_m: float
    track_multiplier: float

    @classmethod
    def of(cls, robot: Robot) -> CardGeometry:
        """The geometry of a robot description."""
        return cls(**{f.name: getattr(robot.base, f.name) for f in fields(cls)})


@dataclass(frozen=True)
class CardAction:
    """What the output means: "twist" is (speed in m/s, yaw rate in rad/s) in the base frame, between low and high."""

    meaning: str
    low: tuple[float, float]
    high: tuple[float, float]

    def __post_init__(self) -> None:
        if self.meaning != "twist":
            raise BundleError(f"action.meaning = {self.meaning!r} is not known; this release knows 'twist'")
        if not all(low < high for low, high in zip(self.low, self.high, strict=True)):
            raise BundleError(f"action.low = {self.low} must be below action.high = {self.high}")

    @classmethod
    def of(cls, robot: Robot) -> CardAction:
        """The twist limits of a robot description."""
        limits = ActionMap.of(robot.limits)
        return cls("twist", limits.low, limits.high)


@dataclass(frozen=True)
class Recorded:
    """Where the policy came from. Nothing here is compared with the robot; all of it is signed."""

    guard: Mapping[str, Any] = field(default_factory=dict)  # guard parameters of the evaluation
    recipe: Mapping[str, Any] = field(default_factory=dict)  # training recipe
    recipe_digest: str = ""  # SHA-256 of the recipe file
    seeds: tuple[int, ...] = ()
    data: Mapping[str, str] = field(default_factory=dict)  # data set -> SHA-256
    git_revision: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)  # evaluation figures
    versions: Mapping[str, str] = field(default_factory=dict)  # library -> version
    flags: tuple[str, ...] = ()  # for example "untuned"
    parity: Mapping[str, float] = field(default_factory=dict)  # export gate: largest differences between backends


@dataclass(frozen=True)
class Card:
    """The contract (terms to geometry must match the robot), the monitor's thresholds, and the record."""

    card_version: int
    name: str
    task: str
    robot: str  # name of the robot description it was trained with; not compared, its values are
    terms: tuple[TermSpec, ...]
    layout: ObservationLayout
    lidar: CardLidar
    action: CardAction
    geometry: CardGeometry
    monitor: MonitorSpec | None
    recorded: Recorded

    def __post_init__(self) -> None:
        if self.card_version != CARD_VERSION:
            raise BundleError(
                f"card_version = {self.card_version} is not supported; this release of dsac_robot reads {CARD_VERSION}"
            )
        names = tuple(term.name for term in self.terms)
        if not names or len(set(names)) != len(names):
            raise BundleError(f"terms must be at least one, each once; got {names}")
        if "command" in names:
            raise BundleError("no term may be called 'command': it is the monitor's input for the judged command")
        if names != self.layout.terms:
            raise BundleError(f"layout.terms = {self.layout.terms} differs from the names in terms = {names}")
        for term in self.terms:
            if any(size < 1 for size in term.shape) or math.prod(term.shape) > TERM_ELEMENTS_MAX:
                raise BundleError(
                    f"terms: {term.name} has shape {term.shape}; each size must be at least 1, their product at most "
                    f"{TERM_ELEMENTS_MAX}"
                )
        if self.layout.control_period_s <= 0.0 or self.layout.frames < 1:
            raise BundleError("layout: control_period_s must be above 0 and frames at least 1")

    @property
    def control_period_s(self) -> float:
        """Time between two ticks."""
        return self.layout.control_period_s

    @classmethod
    def of(
        cls,
        name: str,
        task: str,
        robot: Robot,
        layout: ObservationLayout,
        monitor: MonitorSpec | None = None,
        recorded: Recorded | None = None,
    ) -> Card:
        """The card of a policy trained on ``robot`` with ``layout``. Raises ParameterError if these do not fit."""
        terms = ObservationBuilder(robot, layout).specs
        contract = (CardLidar.of(robot), CardAction.of(robot), CardGeometry.of(robot))
        return cls(CARD_VERSION, name, task, robot.name, terms, layout, *contract, monitor, recorded or Recorded())

    def to_json(self) -> bytes:
        """The text of card.json: UTF-8, full precision."""
        return strict_json.dumps(self)

    @classmethod
    def from_json(cls, content: bytes) -> Card:
        """The card in ``content``. Raises BundleError naming the key that is twice, unknown, missing or wrong."""
        value = strict_json.loads(content, CARD_FILE)
        if isinstance(value, dict) and value.get("card_version") != CARD_VERSION:
            raise BundleError(
                f"{CARD_FILE}: card_version = {value.get('card_version')!r} is not supported; "
                f"this release of dsac_robot reads {CARD_VERSION}"
            )
        return strict_json.decode(cls, value, CARD_FILE)

    def mismatches(self, robot: Robot, layout: ObservationLayout | None = None) -> tuple[str, ...]:
        """One sentence for each field of the contract that differs from the robot in use; empty if it may drive.

        ``layout`` is the observation layout that the deployment expects; without it the card's own is used, and only
        whether this code and robot can build it is checked.
        """
        found = []
        expected = layout or self.layout
        for item in fields(ObservationLayout):
            found += _difference(f"layout.{item.name}", getattr(self.layout, item.name), getattr(expected, item.name))
        try:
            specs = ObservationBuilder(robot, self.layout).specs
        except ParameterError as error:
            found.append(f"layout: {error}")
        else:
            for term, spec in zip(self.terms, specs, strict=True):
                for item in fields(TermSpec):
                    found += _difference(
                        f"terms.{term.name}.{item.name}", getattr(term, item.name), getattr(spec, item.name)
                    )
            found += _period_mismatch(self.control_period_s, robot.lidar.rate_hz)
        sections = (
            ("lidar", self.lidar, CardLidar.of(robot)),
            ("action", self.action, CardAction.of(robot)),
            ("geometry", self.geometry, CardGeometry.of(robot)),
        )
        for section, mine, theirs in sections:
            for name in mine.__dataclass_fields__:
                found += _difference(f"{section}.{name}", getattr(mine, name), getattr(theirs, name))
        return tuple(found)


def _difference(name: str, bundle: object, robot: object) -> list[str]:
    return [] if bundle == robot else [f"{name}: the bundle has {bundle!r}, the robot has {robot!r}"]


def _period_mismatch(control_period_s: float, rate_hz: float) -> list[str]:
    """A tick is a scan: the control period must be near a whole number of scans."""
    nearest_s = max(1, round(control_period_s * rate_hz)) / rate_hz
    if abs(nearest_s - control_period_s) <= PERIOD_TOLERANCE * control_period_s:
        return []
    return [
        f"layout.control_period_s: the bundle ticks every {control_period_s} s, "
        f"the nearest that the robot's lidar at {rate_hz} Hz gives is {nearest_s} s"
    ]
