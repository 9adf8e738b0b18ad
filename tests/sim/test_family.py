"""Families: what may vary, how members are chosen, and that only the machine changes, not what its controller knows."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dsac_robot.core.params import ParameterError
from dsac_robot.core.robot import load_robot
from dsac_robot.core.values import Command, Odom, ns
from sim.family import load_family, nominal_value
from sim.navigate import NavigateEnv, NavigateEnvParams
from sim.robot_model import build
from sim.simulator import SimParams, Simulator
from sim.worlds import World

ROBOT = load_robot("jackal")
WIDE = load_family("jackal_wide")
BARE = World("bare", np.zeros((0, 3)), (0.0, 0.0, 0.0), (50.0, 0.0), 50.0)
IDEAL = SimParams(noise=False)


def family_file(folder: Path, ranges: str, robot: str = "jackal") -> Path:
    path = folder / "mine.yaml"
    path.write_text(f"robot: {robot}\nranges:\n{ranges}", encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["jackal_wide", "jackal_narrow"])
def test_every_shipped_family_holds_its_nominal_robot_within_its_ranges(name: str) -> None:
    family = load_family(name)
    for key, span in family.ranges.items():
        nominal = nominal_value(family.nominal, key)
        assert span.at(0.0, nominal) <= nominal <= span.at(1.0, nominal), key


def test_members_stay_within_their_ranges_and_seeds_repeat_them() -> None:
    for seed in range(50):
        member = WIDE.draw(seed)
        assert member.values == WIDE.draw(seed).values
        for key, value in member.values.items():
            nominal = nominal_value(WIDE.nominal, key)
            low, high = (WIDE.ranges[key].at(unit, nominal) for unit in (0.0, 1.0))
            assert low - 1e-12 <= value <= high + 1e-12
    assert WIDE.draw(0).values != WIDE.draw(1).values


def test_the_values_of_a_member_are_those_of_its_robot() -> None:
    member = WIDE.draw(3)
    for key, value in member.values.items():
        assert nominal_value(member.robot, key) == value
    assert WIDE.nominal == ROBOT


def test_representative_members_are_the_nominal_robot_opposite_corners_and_an_even_cover() -> None:
    members = WIDE.representative(16)
    assert [member.name for member in members] == [
        "nominal",
        *(f"corner {i}" for i in range(1, 5)),
        *(f"inside {i}" for i in range(1, 12)),
    ]
    assert members[0].robot == ROBOT
    for key, span in WIDE.ranges.items():
        nominal = nominal_value(ROBOT, key)
        low, high = span.at(0.0, nominal), span.at(1.0, nominal)
        for first, second in (members[1:3], members[3:5]):
            assert sorted((first.values[key], second.values[key])) == pytest.approx([low, high])
        edges = [span.at(part / 11.0, nominal) for part in range(12)]
        parts = np.searchsorted(edges, [member.values[key] for member in members[5:]])
        assert sorted(parts) == list(range(1, 12)), key  # one in each eleventh of the range
    again = WIDE.representative(16)
    assert [member.values for member in again] == [member.values for member in members]


@pytest.mark.parametrize("count", [1, 2, 7, 8, 9])
def test_any_number_of_members_can_be_had(count: int) -> None:
    assert len(WIDE.representative(count)) == count


def test_no_members_are_refused() -> None:
    with pytest.raises(ParameterError, match="0 instances"):
        WIDE.representative(0)


def test_a_logarithmic_range_is_even_in_the_logarithm(tmp_path: Path) -> None:
    family = load_family(family_file(tmp_path, "  lidar.noise_std_m: {low: 0.001, high: 0.1, spread: log}\n"))
    values = [family.draw(seed).robot.lidar.noise_std_m for seed in range(400)]
    assert np.mean(np.array(values) < 0.01) == pytest.approx(0.5, abs=0.1)


def test_factors_multiply_the_nominal_value(tmp_path: Path) -> None:
    path = family_file(tmp_path, "  base.wheel_radius_m: {low: 0.9, high: 0.9, times_nominal: true}\n")
    assert load_family(path).draw(0).robot.base.wheel_radius_m == pytest.approx(0.9 * ROBOT.base.wheel_radius_m)


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("base.frictoin: {low: 0.5, high: 1.0}", "base.frictoin"),
        ("wheels.friction: {low: 0.5, high: 1.0}", "wheels.friction: no such section"),
        ("base.friction: {low: 0.5, high: 9.0}", r"friction = 9.0  is outside \[0.05, 2.0\]"),
        ("base.friction: {low: 0.9, high: 0.5}", "must not exceed"),
        ("base.friction: {low: 0.5}", "high is missing"),
        ("base.friction: {low: 0.5, high: .nan}", "finite"),
        ("base.friction: {low: 0.5, high: 1.0, step: 3}", "unknown key step"),
        ("base.friction: 0.5", "must be a section"),
        ("base.payload_kg: {low: 0.0, high: 5.0, spread: log}", "above 0"),
        ("base.payload_kg: {low: 0.5, high: 5.0, times_nominal: true}", "nominal value is 0"),
        ("base.drive: {low: 0.0, high: 1.0}", "base.drive cannot vary"),
        ("base.track_multiplier: {low: 1.0, high: 1.2}", "it is the controller's"),
        ("limits.brake_mps2: {low: 1.0, high: 2.0}", "no such section"),
        ("lidar.angle_min_rad: {low: -1.0, high: 1.0}", "lidar.yaw_rad"),
    ],
)
def test_a_range_that_makes_no_sense_is_named_with_file_key_and_what_is_allowed(
    line: str, named: str, tmp_path: Path
) -> None:
    with pytest.raises(ParameterError, match=named) as error:
        load_family(family_file(tmp_path, f"  {line}\n"))
    assert "mine.yaml" in str(error.value)


def test_an_unknown_family_and_an_unknown_robot_are_named(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="jackal_narrow, jackal_wide"):
        load_family("jackal_wild")
    with pytest.raises(ParameterError, match="unicycle"):
        load_family(family_file(tmp_path, "  base.friction: {low: 0.5, high: 1.0}\n", "unicycle"))


def straight(plant_factor: float) -> tuple[float, float]:
    """True distance and odometer of three seconds at 1 m/s on wheels of so many times the nominal radius."""
    plant = replace(ROBOT, base=replace(ROBOT.base, wheel_radius_m=plant_factor * ROBOT.base.wheel_radius_m))
    sim = Simulator(plant, BARE, 0, IDEAL, nominal=ROBOT)
    odometer = 0.0
    while sim.time_ns < ns(3.0):
        sim.send(Command(sim.time_ns, 1.0, 0.0))
        for sample in sim.advance(sim.time_ns + ns(0.02)):
            odometer = sample.x_m if isinstance(sample, Odom) else odometer
    return sim.pose[0], odometer


def test_a_worn_wheel_goes_less_far_and_its_odometry_does_not_know() -> None:
    true, odometer = straight(0.9)
    whole, same = straight(1.0)
    assert odometer == pytest.approx(same, abs=0.02)
    assert true == pytest.approx(0.9 * whole, abs=0.05)
    assert odometer - true > 0.2


def test_a_payload_adds_its_mass_on_top_of_the_robot() -> None:
    loaded = replace(ROBOT, base=replace(ROBOT.base, payload_kg=15.0))
    empty_model, loaded_model = build(ROBOT, BARE).model, build(loaded, BARE).model
    assert sum(loaded_model.body_mass) - sum(empty_model.body_mass) == pytest.approx(15.0)
    base = loaded_model.body("payload")
    assert base.pos[2] == ROBOT.base.height_m


def test_an_environment_may_draw_a_robot_of_a_family_for_each_episode() -> None:
    env = NavigateEnv(ROBOT, params=NavigateEnvParams(family="jackal_wide"))
    robots = []
    for seed in range(3):
        first, _ = env.reset(seed=seed)
        robots.append(env.sim.robot)
        assert env.sim.nominal == ROBOT
        assert np.array_equal(env.reset(seed=seed)[0], first)
    assert len({robot.base.friction for robot in robots}) == 3
    assert pickle.loads(pickle.dumps(env.params)) == env.params


def test_an_environment_refuses_a_family_of_another_robot() -> None:
    other = replace(ROBOT, name="other")
    with pytest.raises(ParameterError, match="other"):
        NavigateEnv(other, params=NavigateEnvParams(family="jackal_wide"))
