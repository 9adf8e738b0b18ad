"""``dsac-robot identify`` on a bag of the simulated robot whose true values differ from its robot file's."""

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from dsac_robot.apps.cli import main
from dsac_robot.apps.robot_text import Change, change_values
from dsac_robot.core.action import Ramp
from dsac_robot.core.files import share_path
from dsac_robot.core.robot import load_robot
from dsac_robot.core.values import Command, Odom, Sample, Scan, ns
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


def drive(bag: Path, seconds: float, moving: bool = True) -> Driven:
    """Random steps of speed and turn, held inside the hall, recorded to a bag."""
    sim = Simulator(PLANT, hall(), 0, SimParams(imu=True), nominal=NOMINAL)
    rng = np.random.default_rng(1)
    samples: list[Sample] = []
    turns: list[tuple[float, float, float]] = []  # wheel angles left and right, heading, every period
    ramp, asked, until_ns = Ramp(), (0.0, 0.0), 0
    while sim.time_ns < ns(seconds):
        now_ns = sim.time_ns
        if now_ns >= until_ns and moving:
            until_ns = now_ns + ns(float(rng.uniform(0.5, 1.3)))
            x, y, yaw = sim.pose
            speed, turn = float(rng.uniform(0.1, 1.0)), float(rng.uniform(-1.5, 1.5)) * (rng.random() < 0.5)
            if math.hypot(x, y) > 1.6:
                off = math.remainder(math.atan2(-y, -x) - yaw, 2.0 * math.pi)
                turn, speed = float(np.clip(1.2 * off, -1.5, 1.5)), 0.1 if abs(off) > 1.0 else speed
            asked = (speed, turn)
        ramp = ramp.toward(asked, NOMINAL.limits, PERIOD_S)
        sent = Command(now_ns, *ramp.twist)
        samples.append(sent)
        sim.send(sent)
        samples += sim.advance(now_ns + ns(PERIOD_S))
        angles = sim._wheel_angles()
        turns.append((angles[0] + angles[1], angles[2] + angles[3], sim.pose[2]))
    assert not sim.touched
    topics = {Command: "cmd_vel", Odom: "odom", Scan: "scan"}
    scans = 0
    rows = []
    for sample in samples:
        scans += isinstance(sample, Scan)
        if not isinstance(sample, Scan) or scans % 4 == 0:  # 10 scans a second are enough
            rows.append((topics.get(type(sample), "imu"), sample, sample.stamp_ns))
    write_bag(bag, rows)
    left, right, yaw = np.diff(np.unwrap(np.array(turns), axis=0, period=2.0 * math.pi)[::50], axis=0).T  # each second
    wheels_m = 0.5 * PLANT.base.wheel_radius_m * (right - left)
    track_m = float(wheels_m @ wheels_m / (wheels_m @ yaw)) if moving else 0.0  # best for yaw from wheels
    return Driven(bag, track_m / NOMINAL.base.track_m)


@pytest.fixture(scope="module")
def driven(tmp_path_factory: pytest.TempPathFactory) -> Driven:
    return drive(tmp_path_factory.mktemp("bags") / "drive", 60.0)


def test_true_values_of_the_simulated_robot_are_recovered_and_written(driven: Driven, tmp_path: Path) -> None:
    out, figures, picture = tmp_path / "out" / "robot.yaml", tmp_path / "figures.json", tmp_path / "fit.png"
    files = ["--out", str(out), "--json", str(figures), "--plot", str(picture)]
    assert main(["identify", str(driven.bag), "--robot", "jackal", *files]) == 0
    content = json.loads(figures.read_text(encoding="utf-8"))
    # A bag cannot tell the link's delay from how much later tyres and servo answer, nor a track from a servo that gives
    # way while the tyres scrub: what is found lies between without them and with them.
    actuation, given_way = PLANT.actuation, try_out(NOMINAL)
    rolling_m = PLANT.base.wheel_radius_m * given_way.speed_ratio
    true = {
        "actuation.action_delay_s": (actuation.action_delay_s, actuation.action_delay_s + actuation.response_delay_s),
        "actuation.motor_time_constant_s": (actuation.motor_time_constant_s, actuation.motor_time_constant_s),
        "base.wheel_radius_m": (rolling_m, PLANT.base.wheel_radius_m),
        "base.track_multiplier": (driven.track_multiplier, given_way.track_multiplier),
    }
    for finding in content["findings"]:
        low, high = finding["interval"]
        least, most = true[finding["key"]]
        assert low <= most and least <= high, finding
    named = {figure["name"] for figure in content["figures"]}
    assert named == {f"{key}{end}" for key in true for end in ("", "_low", "_high")}
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
