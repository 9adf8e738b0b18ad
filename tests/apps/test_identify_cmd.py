"""``dsac-robot identify`` on a bag of the simulated robot whose true values differ from its robot file's."""

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from dsac_robot.apps.cli import main
from dsac_robot.apps.identify_plot import _rates
from dsac_robot.apps.report_style import pyplot
from dsac_robot.apps.robot_text import Change, change_values
from dsac_robot.core.action import Ramp
from dsac_robot.core.files import share_path
from dsac_robot.core.guard_motion import stop_step
from dsac_robot.core.robot import Robot, load_robot
from dsac_robot.core.values import Command, Imu, Odom, Sample, Scan, ns
from dsac_robot.data.identify import Recording, identify
from sim.robot_check import try_out
from sim.simulator import SimParams, Simulator
from sim.worlds import World
from tests.data.conftest import write_bag

NOMINAL = load_robot("jackal")
PLANT = replace(
    NOMINAL,
    base=replace(NOMINAL.base, wheel_radius_m=0.93 * NOMINAL.base.wheel_radius_m),
    actuation=replace(NOMINAL.actuation, action_delay_s=0.09, motor_time_constant_s=0.12),
)
PERIOD_S = 0.02


def hall() -> World:
    """A room of 12 m by 9 m with pillars along its walls."""
    walls = [(x, y, 0.06) for x in np.arange(-6.0, 6.0, 0.1) for y in (-4.5, 4.5)]
    walls += [(x, y, 0.06) for x in (-6.0, 6.0) for y in np.arange(-4.5, 4.5, 0.1)]
    pillars = [(-4.5, -3.0, 0.3), (-4.6, 3.5, 0.2), (4.6, 3.0, 0.4), (5.0, -2.0, 0.15), (0.5, -4.0, 0.25)]
    return World("hall", np.array(walls + pillars), (0.0, 0.0, 0.0), (9.0, 9.0), 1.0)


@dataclass(frozen=True)
class Driven:
    """A bag, and the effective track that the physics of its drive had: wheels against the true heading."""

    bag: Path
    track_multiplier: float


def wander(
    plant: Robot, nominal: Robot, seconds: float, seed: int = 0, moving: bool = True
) -> tuple[list[Sample], list[tuple[float, float, float]]]:
    """Random steps of speed and turn, held inside the hall: what was recorded, and the wheels' angles (left and right)
    and the heading every period."""
    params = SimParams(imu=True, scan_period_s=max(0.1, 1.0 / plant.lidar.rate_hz))  # 10 scans a second are enough
    sim = Simulator(plant, hall(), seed, params, nominal=nominal)
    rng = np.random.default_rng(seed + 1)
    samples: list[Sample] = []
    turns: list[tuple[float, float, float]] = []
    fastest, quickest = min(1.0, nominal.limits.speed_mps_max), min(1.5, nominal.limits.yaw_rate_radps_max)
    ramp, asked, until_ns = Ramp(), (0.0, 0.0), 0
    while sim.time_ns < ns(seconds):
        now_ns = sim.time_ns
        if now_ns >= until_ns and moving:
            until_ns = now_ns + ns(float(rng.uniform(0.5, 1.3)))
            x, y, yaw = sim.pose
            speed, turn = fastest * float(rng.uniform(0.1, 1.0)), quickest * float(rng.uniform(-1.0, 1.0))
            turn *= rng.random() < 0.5
            if math.hypot(x, y) > 1.6:
                off = math.remainder(math.atan2(-y, -x) - yaw, 2.0 * math.pi)
                turn, speed = float(np.clip(1.2 * off, -quickest, quickest)), 0.1 * fastest if abs(off) > 1.0 else speed
            asked = (speed, turn)
        ramp = ramp.toward(asked, nominal.limits, PERIOD_S)
        sent = Command(now_ns, *ramp.twist)
        samples.append(sent)
        sim.send(sent)
        samples += sim.advance(now_ns + ns(PERIOD_S))
        left, right = np.array(sim.wheel_angles()).reshape(2, -1).mean(axis=1)
        turns.append((float(left), float(right), sim.pose[2]))
    assert not sim.touched
    return samples, turns


def track_multiplier(plant: Robot, nominal: Robot, turns: list[tuple[float, float, float]]) -> float:
    """The effective track that the physics of a drive had, over the track."""
    left, right, yaw = np.diff(np.unwrap(np.array(turns), axis=0, period=2.0 * math.pi)[::50], axis=0).T  # each second
    wheels_m = plant.base.wheel_radius_m * (right - left)
    return float(wheels_m @ wheels_m / (wheels_m @ yaw)) / nominal.base.track_m  # best for yaw from wheels


def drive(bag: Path, seconds: float, moving: bool = True) -> Driven:
    """``wander`` recorded to a bag."""
    samples, turns = wander(PLANT, NOMINAL, seconds, moving=moving)
    topics = {Command: "cmd_vel", Odom: "odom", Scan: "scan"}
    write_bag(bag, [(topics.get(type(sample), "imu"), sample, sample.stamp_ns) for sample in samples])
    return Driven(bag, track_multiplier(PLANT, NOMINAL, turns) if moving else 0.0)


@pytest.fixture(scope="module")
def driven(tmp_path_factory: pytest.TempPathFactory) -> Driven:
    return drive(tmp_path_factory.mktemp("bags") / "drive", 60.0)


def test_true_values_of_the_simulated_robot_are_recovered_and_written(driven: Driven, tmp_path: Path) -> None:
    out, figures, picture = tmp_path / "out" / "robot.yaml", tmp_path / "figures.json", tmp_path / "fit.png"
    files = ["--out", str(out), "--json", str(figures), "--plot", str(picture)]
    assert main(["identify", str(driven.bag), "--robot", "jackal", *files]) == 0
    content = json.loads(figures.read_text(encoding="utf-8"))
    # A bag cannot tell a track from a servo that gives way while the tyres scrub, nor a wheel's radius from how far it
    # sinks in: what is found lies between without them and with them.
    actuation, given_way = PLANT.actuation, try_out(NOMINAL)
    rolling_m = PLANT.base.wheel_radius_m * given_way.speed_ratio
    true = {
        "actuation.action_delay_s": (actuation.action_delay_s, actuation.action_delay_s),
        "actuation.motor_time_constant_s": (actuation.motor_time_constant_s, actuation.motor_time_constant_s),
        "base.wheel_radius_m": (rolling_m, PLANT.base.wheel_radius_m),
        "base.track_multiplier": (driven.track_multiplier, given_way.track_multiplier),
    }
    unasked = content["findings"].pop()
    assert (unasked["key"], unasked["value"]) == ("limits.brake_mps2", None)
    assert "~/stop" in unasked["note"]
    for finding in content["findings"]:
        low, high = finding["interval"]
        least, most = true[finding["key"]]
        assert low <= most and least <= high, finding
    named = {figure["name"] for figure in content["figures"]}
    assert named == {f"{key}{end}" for key in true for end in ("", "_low", "_high")} | {"reaction_s"}
    assert picture.read_bytes().startswith(b"\x89PNG")
    found = load_robot(out)
    assert found.base.wheel_radius_m == pytest.approx(PLANT.base.wheel_radius_m, rel=0.02)
    assert found.actuation.motor_time_constant_s == pytest.approx(PLANT.actuation.motor_time_constant_s, abs=0.01)
    before = share_path("config", "robots", "jackal.yaml").read_text(encoding="utf-8").splitlines()
    after = out.read_text(encoding="utf-8").splitlines()
    changed = [new for old, new in zip(before, after, strict=True) if old != new]
    assert 3 <= len(changed) <= 4
    assert all("# [identified from drive, 95 % in " in line for line in changed)
    # delay and lag do not depend on what the file says: the file written agrees with the bag, and they are left alone
    again = tmp_path / "again.yaml"
    assert main(["identify", str(driven.bag), "--robot", str(out), "--out", str(again)]) == 0
    lines = again.read_text(encoding="utf-8").splitlines()
    for key in ("action_delay_s", "motor_time_constant_s"):
        assert [line for line in lines if key in line] == [line for line in after if key in line]


def recorded(samples: list[Sample]) -> Recording:
    return Recording(
        tuple(s for s in samples if isinstance(s, Command)),
        tuple(s for s in samples if isinstance(s, Odom)),
        tuple(s for s in samples if isinstance(s, Imu)),
        tuple(s for s in samples if isinstance(s, Scan)),
    )


def test_odometry_that_is_set_anew_is_a_gap_in_the_picture_and_not_a_speed() -> None:
    samples = wander(NOMINAL, NOMINAL, 20.0)[0]
    again = [replace(s, x_m=s.x_m - 30.0) if isinstance(s, Odom) and s.stamp_ns > ns(10.0) else s for s in samples]
    speed = identify(recorded(again), NOMINAL).speed
    assert speed is not None
    assert np.abs(speed.channel.moved).max() > 5.0
    _, ax = pyplot().subplots()
    _rates(ax, speed)
    for line in ax.lines:
        assert np.nanmax(np.abs(line.get_ydata())) < 1.5
    pyplot().close("all")


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", ["jackal", "rosbot_xl", "burger"])
def test_what_the_file_of_a_shipped_robot_says_holds_for_a_drive_of_that_robot(name: str, seed: int) -> None:
    robot = load_robot(name)
    recording = recorded(wander(robot, robot, 40.0, seed)[0])
    found = {finding.key: finding for finding in identify(recording, robot).findings}
    true = {
        "actuation.action_delay_s": robot.actuation.action_delay_s,
        "actuation.motor_time_constant_s": robot.actuation.motor_time_constant_s,
        "base.wheel_radius_m": robot.base.wheel_radius_m,
        "base.track_multiplier": try_out(robot).track_multiplier,  # servos give way: not quite the file's
    }
    if robot.limits.speed_mps_max < 0.5:  # too few stretches in 40 s
        assert found["base.wheel_radius_m"].found is None
        del true["base.wheel_radius_m"]
    for key, value in true.items():
        estimate = found[key].found
        assert estimate is not None, found[key].note
        assert estimate.low <= value <= estimate.high, (key, estimate)


def stops(bag: Path, brake_mps2: float, count: int = 6) -> Path:
    """Straight drives at several speeds, each ended by the guard's stop, on a floor that bears ``brake_mps2``."""
    limits, tau, delay = NOMINAL.limits, 0.05, 2  # periods
    rows: list[tuple[str, Sample, int]] = []
    twist, ramp, asked, x_m, now_ns = (0.0, 0.0), Ramp(), [0.0] * 50, 0.0, ns(1.0)
    speed = 0.0
    for number in range(count):
        top = 0.6 + 0.25 * number
        for k in range(150):
            if k < 110:
                ramp = ramp.toward((top, 0.0), limits, PERIOD_S)
                twist = ramp.twist
            else:
                twist = stop_step(twist, PERIOD_S, limits)
                ramp = Ramp()
            asked.append(twist[0])
            rows.append(("cmd_vel", Command(now_ns, *twist), now_ns))
            for _ in range(4):  # the base, four times a period
                wanted = (asked[-1 - delay] - speed) / tau
                speed = max(0.0, speed + max(wanted, -brake_mps2) * PERIOD_S / 4)
                x_m += speed * PERIOD_S / 4
            now_ns += ns(PERIOD_S)
            rows.append(("odom", Odom.from_yaw(now_ns, x_m, 0.0, 0.0, speed, 0.0), now_ns))
    write_bag(bag, rows)
    return bag


@pytest.mark.parametrize(("floor_mps2", "holds"), [(5.5, True), (3.0, False)], ids=["dry", "slippery"])
def test_the_brake_is_found_from_the_guards_own_stops(
    floor_mps2: float, holds: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, figures = tmp_path / "found.yaml", tmp_path / "figures.json"
    bag = stops(tmp_path / "stops", floor_mps2)
    assert main(["identify", str(bag), "--robot", "jackal", "--out", str(out), "--json", str(figures)]) == 0
    finding = json.loads(figures.read_text(encoding="utf-8"))["findings"][-1]
    stated = NOMINAL.limits.brake_mps2
    assert finding["agrees"] == holds
    assert load_robot(out).limits.brake_mps2 == (stated if holds else pytest.approx(finding["value"], rel=1e-3))
    if holds:
        assert finding["value"] == pytest.approx(stated, rel=0.1)
    else:
        assert finding["value"] == pytest.approx(floor_mps2, rel=0.1)
    assert "reaction_s (of the guard)        at least 0.0" in capsys.readouterr().out


def test_a_robot_that_stood_still_is_refused_with_what_to_drive(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = drive(tmp_path / "still", 20.0, moving=False).bag
    out = tmp_path / "robot.yaml"
    assert main(["identify", str(bag), "--robot", "jackal", "--out", str(out)]) == 2
    said = capsys.readouterr()
    assert "steps of the speed command" in said.out
    assert "identifies nothing" in said.err
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["no_such_bag", "--robot", "jackal"], "no_such_bag"),
        (["no_such_bag", "--robot", "unicycle"], "unicycle"),
        (["no_such_bag", "--robot", "jackal", "--distance", "-3"], "[1, 1000]"),
    ],
)
def test_bad_input_is_named(arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["identify", *arguments]) == 2
    assert named in capsys.readouterr().err


TEXT = """\
# a robot
name: x
base:
  # tyres
  friction: 0.8   # [guessed]
  mass_kg: 2.0
imu:
  rate_hz: 100.0
"""


def test_only_the_named_value_of_a_robot_file_changes() -> None:
    changed = change_values(TEXT, {"base.friction": Change(0.65, "measured")})
    assert changed == TEXT.replace("0.8   # [guessed]", "0.65  # [measured]")


def test_a_value_that_was_not_given_is_added_to_its_section() -> None:
    changed = change_values(TEXT, {"base.payload_kg": Change(1.5, "weighed")})
    assert changed == TEXT.replace("2.0\n", "2.0\n  payload_kg: 1.5  # [weighed]\n")


def test_a_section_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match="actuation"):
        change_values(TEXT, {"actuation.action_delay_s": Change(0.1, "measured")})
