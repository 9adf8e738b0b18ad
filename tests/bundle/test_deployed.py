"""A loaded bundle at work: ticks, verdicts, and the robots it refuses."""

import gc
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from dsac_robot.bundle.card import Card
from dsac_robot.bundle.deployed import (
    DeployedMonitor,
    DeployedPolicy,
    check_contents,
    check_robot,
    load_bundle,
)
from dsac_robot.bundle.errors import BundleError
from dsac_robot.bundle.write import write_bundle
from dsac_robot.core.history import History, MissingSampleError
from dsac_robot.core.observation import ObservationBuilder, ObservationLayout
from dsac_robot.core.reasons import OodLevel, Reason
from dsac_robot.core.robot import Robot
from dsac_robot.core.values import NS, Command, Goal, Odom, Scan, ns

from .conftest import dense_graph, model_bytes

SCAN_NS = NS // 40


def samples(robot: Robot, scans: int, seed: int = 0) -> list:
    """A goal, a command sent, and scans at 40 Hz with odometry just before each; the newest stamp is scans / 40 s."""
    rng = np.random.default_rng(seed)
    stored: list = [Goal(0, 8.0, 1.0), Command(0, 0.3, 0.1)]
    for i in range(scans + 1):
        ranges = rng.uniform(0.5, 9.0, robot.lidar.beams).astype(np.float32)
        stored.append(Scan(i * SCAN_NS, ranges, robot.lidar.angle_min_rad, robot.lidar.angle_increment_rad))
        stored.append(Odom.from_yaw(i * SCAN_NS, 0.01 * i, 0.0, 0.001 * i, 0.4, 0.04))
    return stored


def filled(policy, robot: Robot, scans: int = 40):
    for sample in samples(robot, scans):
        policy.add(sample)
    return policy


@pytest.fixture
def bundle(bundle_dir: Path, trusted: Path):
    return load_bundle(bundle_dir, trusted)


def test_a_written_bundle_loads_with_the_same_card_and_bytes(bundle, card: Card, models) -> None:
    assert bundle.card == card
    assert (bundle.policy, bundle.monitor) == models
    assert bundle.signed_by is not None and bundle.signed_by.comment == "test release"
    assert bundle.warning == "" and len(bundle.digest) == 64


def test_both_models_run_as_the_card_says(bundle) -> None:
    reports = check_contents(bundle)
    assert [report.model for report in reports] == ["policy.onnx", "monitor.onnx"]
    assert all(report.provider == "CPUExecutionProvider" for report in reports)
    assert "p50" in str(reports[0])


def test_five_lines_of_plain_onnxruntime_give_the_same_command(bundle, bundle_dir: Path, robot: Robot) -> None:
    policy = filled(DeployedPolicy(bundle, robot), robot)
    command = policy.tick(NS)
    # docs/bundle.md shows these lines
    session = onnxruntime.InferenceSession(bundle_dir / "policy.onnx", providers=["CPUExecutionProvider"])
    batch = {name: value[None] for name, value in policy.observation.items()}
    (plain,) = session.run(["command"], batch)
    assert plain.dtype == np.float32
    assert np.array_equal(plain[0], np.array([command.speed_mps, command.yaw_rate_radps], np.float32))


def test_policy_and_monitor_build_the_observation_that_the_builder_builds(bundle, robot: Robot) -> None:
    policy = filled(DeployedPolicy(bundle, robot), robot)
    monitor = filled(DeployedMonitor(bundle, robot), robot)
    monitor.judge(policy.tick(NS))
    history = History()
    for sample in samples(robot, 40):
        history.add(sample)
    expected = ObservationBuilder(robot, bundle.card.layout).build(history, NS)
    for name, value in expected.items():
        assert np.array_equal(policy.observation[name], value)
        assert np.array_equal(monitor.observation[name], value)


def test_the_command_carries_the_scans_stamp_and_keeps_the_limits(bundle, robot: Robot) -> None:
    policy = filled(DeployedPolicy(bundle, robot), robot)
    command = policy.tick(NS)
    assert command.stamp_ns == NS
    assert robot.limits.speed_mps_min <= command.speed_mps <= robot.limits.speed_mps_max
    assert abs(command.yaw_rate_radps) <= robot.limits.yaw_rate_radps_max


def loaded(tmp_path: Path, card: Card, low: list[float], high: list[float]):
    """A bundle whose policy answers large numbers, clipped to [low, high] inside the network."""
    weights = -100.0 * np.ones((sum(int(np.prod(term.shape)) for term in card.terms), 2))
    model = model_bytes(dense_graph(card.terms, "command", weights, low, high))
    folder = write_bundle(tmp_path / "clipped", replace(card, monitor=None), model, None, None)
    return load_bundle(folder, (), allow_unsigned=True)


def test_rounding_to_float32_does_not_leave_the_limits(tmp_path: Path, layout: ObservationLayout, robot: Robot) -> None:
    slow = replace(robot, limits=replace(robot.limits, speed_mps_min=-0.1, yaw_rate_radps_max=1.1))
    card = Card.of("slow", "navigate", slow, layout)
    assert float(np.float32(-0.1)) < -0.1 and float(np.float32(-1.1)) < -1.1
    policy = filled(DeployedPolicy(loaded(tmp_path, card, [-0.1, -1.1], [2.0, 1.1]), slow), slow)
    assert policy.tick(NS) == Command(NS, -0.1, -1.1)


def test_a_command_out_of_its_limits_is_shown_to_the_guard_and_not_hidden(tmp_path, card: Card, robot: Robot) -> None:
    policy = filled(DeployedPolicy(loaded(tmp_path, card, [-3.0, -2.0], [2.0, 2.0]), robot), robot)
    assert policy.tick(NS) == Command(NS, -3.0, -2.0)


def test_a_command_that_is_not_finite_is_shown_to_the_guard(bundle, robot: Robot) -> None:
    policy = filled(DeployedPolicy(bundle, robot), robot)
    policy.add(Goal(NS, float("nan"), 0.0))
    assert not policy.tick(NS).finite


def test_a_tick_without_samples_raises_and_was_no_tick(bundle, robot: Robot) -> None:
    policy = DeployedPolicy(bundle, robot)
    with pytest.raises(MissingSampleError):
        policy.tick(NS)
    assert policy.due(NS) and policy.observation is None


def test_ticks_come_every_control_period_give_or_take_half_a_lidar_period(bundle, robot: Robot) -> None:
    policy = filled(DeployedPolicy(bundle, robot), robot)
    ticks = []
    for i in range(20, 41):
        stamp_ns = i * SCAN_NS
        if policy.due(stamp_ns):
            policy.tick(stamp_ns)
            ticks.append(i)
    assert ticks == [20, 24, 28, 32, 36, 40]


def test_a_tick_is_due_exactly_half_a_lidar_period_early_and_not_a_nanosecond_sooner(bundle, robot: Robot) -> None:
    policy = filled(DeployedPolicy(bundle, robot), robot)
    policy.tick(NS // 2)
    due_ns = NS // 2 + ns(0.1) - SCAN_NS // 2
    assert policy.due(due_ns) and not policy.due(due_ns - 1)


def test_reset_forgets_samples_and_ticks(bundle, robot: Robot) -> None:
    policy = filled(DeployedPolicy(bundle, robot), robot)
    policy.tick(NS)
    policy.reset()
    assert policy.due(0)
    with pytest.raises(MissingSampleError):
        policy.tick(NS)


def test_the_monitor_raises_after_two_ticks_and_names_the_score(bundle, robot: Robot) -> None:
    monitor = filled(DeployedMonitor(bundle, robot), robot)
    calm, fast = Command(NS, 0.1, 0.0), Command(NS, 0.9, 0.0)
    assert monitor.judge(calm).level is OodLevel.OK
    assert monitor.judge(fast).level is OodLevel.OK
    verdict = monitor.judge(fast, now_ns=NS + 5)
    assert (verdict.level, verdict.reason) == (OodLevel.ALARM, Reason.OOD_ALARM)
    assert (verdict.stamp_ns, verdict.judged_stamp_ns) == (NS + 5, NS)
    assert verdict.score == pytest.approx(90.0) and verdict.alarm_threshold == 80.0
    monitor.reset()
    filled(monitor, robot)
    assert monitor.judge(fast).level is OodLevel.OK


@pytest.mark.parametrize("speed_mps", [float("nan"), float("inf")])
def test_a_command_that_is_not_finite_is_a_monitor_fault(bundle, robot: Robot, speed_mps: float) -> None:
    monitor = filled(DeployedMonitor(bundle, robot), robot)
    verdict = monitor.judge(Command(NS, speed_mps, 0.0))
    assert (verdict.level, verdict.reason) == (OodLevel.ALARM, Reason.MONITOR_FAULT)


def test_an_observation_that_cannot_be_rebuilt_is_a_monitor_fault(bundle, robot: Robot) -> None:
    verdict = DeployedMonitor(bundle, robot).judge(Command(NS, 0.1, 0.0))
    assert (verdict.level, verdict.reason, verdict.judged_stamp_ns) == (OodLevel.ALARM, Reason.MONITOR_FAULT, NS)


def test_a_scan_of_another_beam_count_is_refused_with_both_numbers(bundle, robot: Robot) -> None:
    with pytest.raises(ValueError, match=r"719.*720"):
        DeployedPolicy(bundle, robot).add(Scan(0, np.ones(719, np.float32)))


def test_a_bundle_without_monitor_has_no_deployed_monitor(tmp_path: Path, card: Card, models, robot: Robot) -> None:
    folder = write_bundle(tmp_path / "plain", replace(card, monitor=None), models[0], None, None)
    bundle = load_bundle(folder, (), allow_unsigned=True)
    assert "unsigned" in bundle.warning
    with pytest.raises(BundleError, match="has no monitor"):
        DeployedMonitor(bundle, robot)


@pytest.mark.parametrize(
    ("section", "change", "field"),
    [
        ("lidar", {"beams": 360}, "lidar.beams"),
        ("lidar", {"angle_increment_rad": 0.01}, "lidar.angle_increment_rad"),
        ("lidar", {"x_m": 0.056}, "lidar.x_m"),
        ("lidar", {"zero_means": "no_return"}, "lidar.zero_means"),
        ("lidar", {"range_max_m": 30.0}, "lidar.range_max_m"),
        ("lidar", {"rate_hz": 15.0}, "layout.control_period_s"),
        ("limits", {"speed_mps_max": 1.0}, "action.high"),
        ("limits", {"speed_mps_min": -0.1}, "action.low"),
        ("base", {"track_m": 0.4}, "geometry.track_m"),
        ("base", {"wheel_radius_m": 0.1}, "geometry.wheel_radius_m"),
        ("base", {"drive": "differential"}, "geometry.drive"),
    ],
)
def test_a_robot_that_differs_is_refused_by_the_name_of_the_field(bundle, robot, section, change, field) -> None:
    other = replace(robot, **{section: replace(getattr(robot, section), **change)})
    found = bundle.card.mismatches(other)
    assert len(found) == 1 and field in found[0]
    assert all(str(value) in found[0] for value in change.values())
    with pytest.raises(BundleError, match=field):
        DeployedPolicy(bundle, other)


def test_a_lidar_slower_than_the_control_period_is_refused(bundle, robot: Robot) -> None:
    slow = replace(robot, lidar=replace(robot.lidar, rate_hz=5.0))
    with pytest.raises(BundleError, match=r"control_period_s = 0\.1 is below the lidar's period 0\.2"):
        check_robot(bundle.card, slow)


def test_a_robot_of_another_name_and_mass_is_the_same_to_the_policy(bundle, robot: Robot) -> None:
    other = replace(robot, name="jackal_2", base=replace(robot.base, mass_kg=20.0))
    check_robot(bundle.card, other)


def test_a_wrong_control_period_is_refused_with_both_values(bundle, robot: Robot) -> None:
    with pytest.raises(BundleError, match=r"layout\.control_period_s: the bundle has 0\.1, the robot has 0\.2"):
        check_robot(bundle.card, robot, ObservationLayout(control_period_s=0.2))


def test_a_card_whose_terms_this_code_does_not_build_is_refused(bundle, robot: Robot) -> None:
    card = bundle.card
    unit = replace(card, terms=(replace(card.terms[0], unit="mm"), *card.terms[1:]))
    assert [text.split(":")[0] for text in unit.mismatches(robot)] == ["terms.scan_sectors.unit"]
    shape = replace(card, terms=(replace(card.terms[0], shape=(2, 36)), *card.terms[1:]))
    assert [text.split(":")[0] for text in shape.mismatches(robot)] == ["terms.scan_sectors.shape"]


def test_memory_does_not_grow_with_ticks(bundle, robot: Robot) -> None:
    policy = filled(DeployedPolicy(bundle, robot), robot)
    monitor = filled(DeployedMonitor(bundle, robot), robot)

    def run(start: int, count: int) -> None:
        for i in range(start, start + count):
            stamp_ns = NS + i * SCAN_NS
            for part in (policy, monitor):
                part.add(Scan(stamp_ns, np.ones(robot.lidar.beams, np.float32)))
                part.add(Odom.from_yaw(stamp_ns, 0.0, 0.0, 0.0, 0.0, 0.0))
            monitor.judge(policy.tick(stamp_ns))

    run(1, 500)
    gc.collect()
    tracemalloc.start()
    run(501, 100)
    before, _ = tracemalloc.get_traced_memory()
    run(601, 2000)
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 300_000  # the histories' scans, at most once over
