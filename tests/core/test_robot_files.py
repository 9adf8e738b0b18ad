"""Robot files: the shipped ones name their sources, and each bad one is refused by file, key, value and range."""

import copy
import dataclasses
import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsac_robot.core.files import dump_yaml, share_path
from dsac_robot.core.params import ParameterError, ParamInfo, as_dict, build, infos
from dsac_robot.core.robot import Robot, check_parts, check_robot, load_robot

SHIPPED = ("burger", "jackal", "rosbot_xl")
PLAIN = as_dict(load_robot("burger"))
SKID = as_dict(load_robot("rosbot_xl"))
SECTIONS = {f.name: f.type for f in dataclasses.fields(Robot) if "param" not in f.metadata}


def declared() -> list[tuple[str, ParamInfo]]:
    """Each parameter of a robot file with its section."""
    hints = {name: type(getattr(load_robot("burger"), name)) for name in SECTIONS}
    return [(section, info) for section, cls in hints.items() for info in infos(cls)]


def refusal(values: dict[str, Any], folder: Path) -> str:
    """The error that a file of these values is refused with."""
    path = folder / "mine.yaml"
    path.write_text(dump_yaml(values), encoding="utf-8")
    with pytest.raises(ParameterError) as refused:
        load_robot(path)
    return str(refused.value)


def changed(robot: dict[str, Any], **sections: dict[str, Any]) -> dict[str, Any]:
    """A copy with some keys replaced."""
    values = copy.deepcopy(robot)
    for section, keys in sections.items():
        values[section].update(keys)
    return values


@pytest.mark.parametrize("name", SHIPPED)
def test_each_shipped_robot_loads_under_its_own_name(name: str) -> None:
    assert load_robot(name).name == name


@pytest.mark.parametrize("name", SHIPPED)
def test_each_value_of_a_shipped_robot_names_its_source(name: str) -> None:
    text = share_path("config", "robots", f"{name}.yaml").read_text(encoding="utf-8")
    values = [line for line in text.splitlines() if re.match(r"  \w+:", line)]
    bare = [line for line in values if not re.search(r"# \[.+\]", line)]
    assert len(values) > 30 and not bare


def test_a_file_written_from_a_robot_gives_the_same_robot(tmp_path: Path) -> None:
    for name in SHIPPED:
        path = tmp_path / "again.yaml"
        path.write_text(dump_yaml(as_dict(load_robot(name))), encoding="utf-8")
        assert load_robot(path) == load_robot(name)


@pytest.mark.parametrize(
    ("base", "change", "words"),
    [
        (PLAIN, {"base": {"mass_kg": -1.0}}, ["base: mass_kg", "-1.0", "kg", "[0.1, 1000.0]"]),
        (PLAIN, {"base": {"mass_kg": math.nan}}, ["base: mass_kg", "nan", "finite", "[0.1, 1000.0]"]),
        (PLAIN, {"lidar": {"range_max_m": math.inf}}, ["lidar: range_max_m", "inf", "[0.1, 300.0]"]),
        (PLAIN, {"base": {"mass_kg": "1.0 kg"}}, ["base: mass_kg", "1.0 kg", "float in [0.1, 1000.0] kg"]),
        (PLAIN, {"imu": {"gyro_noise_radps": "2e-4"}}, ["imu: gyro_noise_radps", "2e-4", "0.0002"]),
        (PLAIN, {"base": {"drive": "omni"}}, ["base: drive", "omni", "differential, skid_steer"]),
        (PLAIN, {"base": {"weight": 3.0}}, ["base: unknown key weight", "mass_kg"]),
        (PLAIN, {"lidar": {"beams": 3.5}}, ["lidar: beams", "3.5", "int"]),
        (PLAIN, {"base": {"track_m": 0.3}}, ["base.footprint_m", "base.track_m = 0.3", "0.070 m"]),
        (PLAIN, {"base": {"wheel_width_m": 0.2}}, ["base.footprint_m", "base.wheel_width_m = 0.2"]),
        (PLAIN, {"base": {"wheel_radius_m": 0.06}}, ["base.footprint_m", "base.wheel_radius_m = 0.06"]),
        (SKID, {"base": {"wheelbase_m": 0.3}}, ["base.footprint_m", "base.wheelbase_m = 0.3"]),
        (SKID, {"base": {"wheelbase_m": 0.0}}, ["base.wheelbase_m is missing", "two axles"]),
        (PLAIN, {"base": {"wheel_mass_kg": 0.5}}, ["base.wheel_mass_kg = 0.5", "below 0.475"]),
        (PLAIN, {"base": {"height_m": 0.01, "wheel_radius_m": 0.045}}, ["base.height_m = 0.01", "above 0.01125"]),
        (PLAIN, {"base": {"com_x_m": 0.01}}, ["base.com_x_m = 0.01", "tip over", "-0.081", "0.000"]),
        (SKID, {"base": {"com_x_m": -0.1}}, ["base.com_x_m = -0.1", "-0.085", "0.085"]),
        (PLAIN, {"lidar": {"z_m": 0.1}}, ["lidar.z_m = 0.1", "inside of the body", "base.height_m = 0.152"]),
        (PLAIN, {"lidar": {"x_m": 0.3}}, ["lidar.x_m = 0.3", "0.262 m outside of base.footprint_m"]),
        (PLAIN, {"lidar": {"range_min_m": 4.0}}, ["lidar.range_min_m = 4.0", "3.5"]),
        (PLAIN, {"lidar": {"beams": 400}}, ["lidar.beams", "6.9639", "full turn"]),
        (PLAIN, {"base": {"footprint_m": [0.0, 0.0, 1.0]}}, ["base.footprint_m", "3 points", "3 numbers"]),
        (PLAIN, {"base": {"footprint_m": [0.0, 0.0, 0.0, 1.0, 1.0, 0.0]}}, ["base.footprint_m", "counter-clockwise"]),
    ],
)
def test_a_bad_value_is_refused_by_file_key_value_and_range(
    base: dict[str, Any], change: dict[str, dict[str, Any]], words: list[str], tmp_path: Path
) -> None:
    said = refusal(changed(base, **change), tmp_path)
    for word in ["mine.yaml", *words]:
        assert word in said, said


def test_an_outline_that_winds_around_twice_is_refused(tmp_path: Path) -> None:
    star = [value for k in range(5) for value in (math.cos(0.8 * math.pi * k), math.sin(0.8 * math.pi * k))]
    assert "convex" in refusal(changed(PLAIN, base={"footprint_m": star}), tmp_path)


def test_a_missing_key_is_named_with_its_meaning_and_range(tmp_path: Path) -> None:
    values = copy.deepcopy(PLAIN)
    del values["limits"]["brake_mps2"]
    said = refusal(values, tmp_path)
    assert "mine.yaml: limits: brake_mps2 is missing" in said and "[0.01, 20.0]" in said


def test_a_missing_section_is_named_by_its_first_key(tmp_path: Path) -> None:
    values = copy.deepcopy(PLAIN)
    del values["limits"]
    assert "limits: speed_mps_max is missing" in refusal(values, tmp_path)


def test_a_key_given_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(dump_yaml(PLAIN) + "name: other\n", encoding="utf-8")
    with pytest.raises(ParameterError, match=r"mine\.yaml.*'name' is given twice"):
        load_robot(path)


def test_a_lidar_below_the_top_is_allowed_in_a_slot_and_where_it_looks_away_from_the_body(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    bumper = {"z_m": 0.1, "x_m": 0.038, "beams": 170, "angle_min_rad": -1.48}
    for lidar in ({"z_m": 0.1, "in_slot": True}, bumper):
        path.write_text(dump_yaml(changed(PLAIN, lidar=lidar)), encoding="utf-8")
        assert load_robot(path).lidar.z_m == 0.1
    assert "would see up to" in refusal(changed(PLAIN, lidar={**bumper, "beams": 200}), tmp_path)


def test_a_section_without_keys_is_all_defaults(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(dump_yaml({**PLAIN, "imu": None, "odometry": None}), encoding="utf-8")
    assert load_robot(path).imu == build(type(load_robot("burger").imu), {}, "")


anything = st.one_of(
    st.floats(),
    st.integers(-(10**12), 10**12),
    st.text(max_size=8),
    st.booleans(),
    st.none(),
    st.lists(st.floats(), max_size=9),
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(declared()), anything)
def test_whatever_a_key_holds_the_robot_is_whole_or_the_error_names_the_key(
    where: tuple[str, ParamInfo], value: object
) -> None:
    section, info = where
    try:
        robot = build(Robot, changed(PLAIN, **{section: {info.name: value}}), "mine.yaml")
        robot = check_parts(check_robot(robot, "mine.yaml"), "mine.yaml")
    except ParameterError as refused:
        assert str(refused).startswith("mine.yaml: ")
        assert section in str(refused)
        return
    kept = getattr(getattr(robot, section), info.name)
    if isinstance(kept, float):
        assert math.isfinite(kept) and info.low is not None and info.low <= kept <= (info.high or math.inf)


@settings(max_examples=150, deadline=None)
@given(st.recursive(anything, lambda inner: st.dictionaries(st.text(max_size=8), inner, max_size=4), max_leaves=8))
def test_no_text_of_any_shape_gives_another_error_than_the_parameters_own(content: object) -> None:
    with pytest.raises(ParameterError):
        build(Robot, content, "mine.yaml")  # type: ignore[arg-type]


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=60))
def test_a_file_of_any_text_is_refused_by_its_name(tmp_path_factory: pytest.TempPathFactory, content: str) -> None:
    path = tmp_path_factory.getbasetemp() / "mine.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ParameterError, match=r"mine\.yaml"):
        load_robot(path)


def test_a_battery_that_is_empty_before_it_is_discharged_is_refused(tmp_path: Path) -> None:
    text = refusal(changed(PLAIN, battery={"nominal_v": 9.0, "undervoltage_v": 9.9}), tmp_path)
    assert "battery.undervoltage_v = 9.9" in text and "nominal_v = 9.0" in text
