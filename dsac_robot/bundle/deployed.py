"""A bundle at work: what the policy node, the monitor node, the simulator and the benchmarks drive with alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dsac_robot.bundle.card import CARD_FILE, Card
from dsac_robot.bundle.errors import BundleError
from dsac_robot.bundle.keys import TrustedKey
from dsac_robot.bundle.manifest import verify_bundle
from dsac_robot.bundle.onnx_check import check_model
from dsac_robot.bundle.runtime import PROVIDERS, Runtime, RuntimeReport, TensorSpec
from dsac_robot.bundle.write import MONITOR_FILE, POLICY_FILE
from dsac_robot.core.files import share_path
from dsac_robot.core.guard_types import Verdict
from dsac_robot.core.history import History, MissingSampleError
from dsac_robot.core.observation import Observation, ObservationBuilder, ObservationLayout
from dsac_robot.core.ood import MonitorSpec, OodState, judge
from dsac_robot.core.reasons import OodLevel, Reason
from dsac_robot.core.robot import Robot
from dsac_robot.core.values import NS, Command, Floats, Sample, Scan

ROUNDING = 1e-6  # of the range of a command: how far float32 may push it over its limit


@dataclass(frozen=True)
class Bundle:
    """A bundle that was verified and read."""

    card: Card
    policy: bytes
    monitor: bytes | None
    digest: str
    signed_by: TrustedKey | None
    warning: str = ""  # not empty where an unsigned bundle was allowed: every diagnostic must say it


def trusted_keys_dir() -> Path:
    """``config/trusted_keys`` of this installation: the keys that are believed by default."""
    return share_path("config", "trusted_keys")


def find_bundle(name: str | Path) -> Path:
    """The directory ``name``, or else the bundle of that name in ``config/bundles`` of this installation.

    What is neither is returned as it is, to be refused by who reads it.
    """
    path = Path(name).expanduser()
    if path.exists() or path.name != str(name):
        return path
    try:
        return share_path("config", "bundles", path.name)
    except FileNotFoundError:
        return path


def load_bundle(
    directory: str | Path, trusted: str | Path | Sequence[TrustedKey] | None = None, allow_unsigned: bool = False
) -> Bundle:
    """Verify and read the bundle in ``directory``, which may be the name of a shipped one (``find_bundle``).

    ``trusted`` is a directory of .pub files, or keys; without it ``trusted_keys_dir()``. Raises BundleError as
    ``verify_bundle`` does, and for a bad card, a bad model, or a card and files that do not agree.
    """
    if trusted is None:
        try:
            trusted = trusted_keys_dir()
        except FileNotFoundError:
            trusted = ()
    directory = find_bundle(directory)
    verified = verify_bundle(directory, Path(trusted) if isinstance(trusted, str) else trusted, allow_unsigned)
    for name in (CARD_FILE, POLICY_FILE):
        if name not in verified.files:
            raise BundleError(f"{directory / name}: missing: every bundle has one")
    try:
        card = Card.from_json(verified.files[CARD_FILE])
    except BundleError as error:
        raise BundleError(f"{directory}: {error}") from error
    policy, monitor = verified.files[POLICY_FILE], verified.files.get(MONITOR_FILE)
    if card.monitor is not None and monitor is None:
        raise BundleError(f"{directory / MONITOR_FILE}: missing: {CARD_FILE} describes a monitor")
    if card.monitor is None and monitor is not None:
        raise BundleError(f"{directory / MONITOR_FILE}: {CARD_FILE} has no thresholds for it (monitor is null)")
    check_model(policy, POLICY_FILE)
    if monitor is not None:
        check_model(monitor, MONITOR_FILE)
    return Bundle(card, policy, monitor, verified.digest, verified.signed_by, verified.warning)


def check_robot(card: Card, robot: Robot, layout: ObservationLayout | None = None) -> None:
    """Raise BundleError listing each field of the card's contract that differs from the robot (and layout) in use."""
    found = card.mismatches(robot, layout)
    if found:
        raise BundleError(f"bundle {card.name!r} does not fit robot {robot.name!r}: " + "; ".join(found))


def check_contents(bundle: Bundle, providers: Sequence[str] = PROVIDERS) -> tuple[RuntimeReport, ...]:
    """Load and run each model of the bundle, without a robot; BundleError if one is not what the card says."""
    reports = [_policy_runtime(bundle, providers).report]
    if bundle.card.monitor is not None and bundle.monitor is not None:
        reports.append(_monitor_runtime(bundle, bundle.card.monitor, bundle.monitor, providers).report)
    return tuple(reports)


def model_inputs(bundle: Bundle) -> dict[str, tuple[bytes, tuple[TensorSpec, ...]]]:
    """Each model of the bundle by file name, with the inputs that the card gives it."""
    terms = tuple(TensorSpec(term.name, term.shape) for term in bundle.card.terms)
    found = {POLICY_FILE: (bundle.policy, terms)}
    if bundle.monitor is not None:
        found[MONITOR_FILE] = (bundle.monitor, (*terms, TensorSpec("command", (2,))))
    return found


def _policy_runtime(bundle: Bundle, providers: Sequence[str]) -> Runtime:
    inputs = model_inputs(bundle)[POLICY_FILE][1]
    return Runtime(bundle.policy, inputs, TensorSpec("command", (2,)), POLICY_FILE, providers)


def _monitor_runtime(bundle: Bundle, spec: MonitorSpec, model: bytes, providers: Sequence[str]) -> Runtime:
    inputs = model_inputs(bundle)[MONITOR_FILE][1]
    return Runtime(model, inputs, TensorSpec("scores", (len(spec.scores),)), MONITOR_FILE, providers)


class _Deployed:
    """What policy and monitor share: a history of samples and the builder of the observation."""

    def __init__(self, card: Card, robot: Robot, layout: ObservationLayout | None) -> None:
        check_robot(card, robot, layout)
        self._card = card
        self._builder = ObservationBuilder(robot, card.layout)
        self._history = History(horizon_s=max(2.0, 1.0 + card.layout.frames * card.control_period_s))
        self._beams = robot.lidar.beams
        self._seen = False  # the buffers hold an observation that was given to the network

    @property
    def observation(self) -> Observation | None:
        """A copy of the observation that was last given to the network; None before the first, and after a tick that
        lacked a sample."""
        return {term.name: self._buffers[term.name].copy() for term in self._card.terms} if self._seen else None

    def _bind(self, buffers: Observation) -> None:
        """Build observations in the runtime's own buffers from now on."""
        self._buffers, self._fills = buffers, self._builder.bind(buffers)

    def _build(self, scan_stamp_ns: int) -> None:
        """Build the observation in the runtime's buffers. Raises MissingSampleError."""
        self._seen = False
        for fill, out in self._fills:
            fill(self._history, scan_stamp_ns, out)
        self._seen = True

    @property
    def follows_plan(self) -> bool:
        """True where the observation is built from a plan: then a goal alone is nothing to drive to."""
        return self._builder.follows_plan

    def add(self, sample: Sample) -> None:
        """Take in one sample. Raises ValueError for a scan of another number of beams than the robot's lidar has."""
        if isinstance(sample, Scan) and sample.ranges_m.shape != (self._beams,):
            raise ValueError(f"a scan has {sample.ranges_m.shape} ranges; the robot's lidar has {self._beams} beams")
        self._history.add(sample)


class DeployedPolicy(_Deployed):
    """The policy of a bundle on one robot.

    Raises BundleError if the bundle does not fit the robot (or the ``layout`` that the deployment expects), or if the
    model is not what the card says.
    """

    def __init__(
        self,
        bundle: Bundle,
        robot: Robot,
        layout: ObservationLayout | None = None,
        providers: Sequence[str] = PROVIDERS,
    ) -> None:
        super().__init__(bundle.card, robot, layout)
        self.card = bundle.card
        self._runtime = _policy_runtime(bundle, providers)
        self._bind(self._runtime.buffers)
        self._spacing_ns = round((bundle.card.control_period_s - 0.5 / robot.lidar.rate_hz) * NS)
        self._last_tick_ns: int | None = None
        self._low, self._high = bundle.card.action.low, bundle.card.action.high

    @property
    def report(self) -> RuntimeReport:
        """Which provider runs the policy and why; to be logged."""
        return self._runtime.report

    def due(self, scan_stamp_ns: int) -> bool:
        """True if a tick is due on this scan: the first one, and then each that is a control period after the last
        tick, give or take half a lidar period."""
        return self._last_tick_ns is None or scan_stamp_ns >= self._last_tick_ns + self._spacing_ns

    def tick(self, scan_stamp_ns: int) -> Command:
        """The command for the scan of that stamp, which becomes the command's stamp.

        Raises MissingSampleError while a sample is not there yet; then it was no tick. A result that is not finite, or
        outside the limits by more than rounding, is returned as it is: the guard stops for it and says so.
        """
        self._build(scan_stamp_ns)
        self._runtime.run_bound()
        speed, yaw_rate = self._runtime.output.tolist()
        self._last_tick_ns = scan_stamp_ns
        (slowest, rightmost), (fastest, leftmost) = self._low, self._high
        if not (slowest <= speed <= fastest and rightmost <= yaw_rate <= leftmost):
            speed, yaw_rate = _unrounded(speed, slowest, fastest), _unrounded(yaw_rate, rightmost, leftmost)
        return Command(scan_stamp_ns, speed, yaw_rate)

    def run_bound(self) -> None:
        """Run the network alone, once more on the last observation (for benchmarks)."""
        self._runtime.run_bound()

    def reset(self) -> None:
        """Forget all samples and ticks (a clock that jumped, a new episode)."""
        self._history.clear()
        self._seen = False
        self._last_tick_ns = None


class DeployedMonitor(_Deployed):
    """The OOD monitor of a bundle on one robot.

    Raises BundleError like DeployedPolicy, and for a bundle without a monitor.
    """

    def __init__(
        self,
        bundle: Bundle,
        robot: Robot,
        layout: ObservationLayout | None = None,
        providers: Sequence[str] = PROVIDERS,
    ) -> None:
        if bundle.card.monitor is None or bundle.monitor is None:
            raise BundleError(f"bundle {bundle.card.name!r} has no monitor")
        super().__init__(bundle.card, robot, layout)
        self.card = bundle.card
        self.spec: MonitorSpec = bundle.card.monitor
        self._runtime = _monitor_runtime(bundle, self.spec, bundle.monitor, providers)
        self._bind(self._runtime.buffers)
        self._state = OodState()
        self._scores: Floats = np.full(len(self.spec.scores), np.nan)

    @property
    def scores(self) -> Floats:
        """The scores of the last judgement; NaN where there was none. # (K,)"""
        return self._scores

    @property
    def report(self) -> RuntimeReport:
        """Which provider runs the monitor and why; to be logged."""
        return self._runtime.report

    def judge(self, command: Command, now_ns: int | None = None) -> Verdict:
        """The verdict on ``command`` and the observation of its stamp; stamped ``now_ns``, or as the command.

        A command that is not finite, and one whose observation cannot be rebuilt, is an ALARM with MONITOR_FAULT.
        """
        stamp_ns = command.stamp_ns if now_ns is None else now_ns
        fault = Verdict(stamp_ns, command.stamp_ns, OodLevel.ALARM, Reason.MONITOR_FAULT)
        self._scores = np.full(len(self.spec.scores), np.nan)
        if not command.finite:
            return fault
        try:
            self._build(command.stamp_ns)
        except MissingSampleError:
            return fault
        judged = self._buffers["command"]
        judged[0], judged[1] = command.speed_mps, command.yaw_rate_radps
        self._runtime.run_bound()
        self._scores = self._runtime.output.astype(np.float64)
        self._state, judgement = judge(self._state, self._scores, self.spec)
        return Verdict(
            stamp_ns,
            command.stamp_ns,
            judgement.level,
            judgement.reason,
            judgement.score,
            judgement.caution_threshold,
            judgement.alarm_threshold,
        )

    def reset(self) -> None:
        """Forget all samples and the hysteresis (a clock that jumped, a new episode)."""
        self._history.clear()
        self._seen = False
        self._state = OodState()


def _unrounded(value: float, low: float, high: float) -> float:
    """``value`` inside its limits where only float32's rounding put it outside."""
    if low <= value <= high:
        return value
    inside = min(max(value, low), high)
    return inside if math.isfinite(value) and abs(value - inside) <= ROUNDING * (high - low) else value
