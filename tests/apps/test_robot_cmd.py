"""``dsac-robot robot``: a new robot file loads and drives as it is; a check says what is wrong or what comes out."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dsac_robot.apps.cli import main
from dsac_robot.apps.robot_cmd import guard_notes, notes, unfilled
from dsac_robot.apps.robot_template import EXAMPLE, template
from dsac_robot.core.params import ParameterError, infos
from dsac_robot.core.robot import load_robot
from sim.lidar import cast


def test_a_new_robot_file_passes_the_check_as_it_is_and_gets_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from matplotlib import image

    monkeypatch.chdir(tmp_path)
    assert main(["robot", "new", "my_bot"]) == 0
    assert "dsac-robot robot check my_bot.yaml" in capsys.readouterr().out
    words = ["robot", "check", "my_bot.yaml", "--png", "out/my_bot.png", "--json", "out/my_bot.json", "--strict"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert said.startswith("my_bot: valid") and "MISSED" not in said
    picture = image.imread("out/my_bot.png")
    assert picture.shape[1] > 1000 and len(np.unique(picture.reshape(-1, picture.shape[2]), axis=0)) > 50
    figures = {row["name"]: row for row in json.loads(Path("out/my_bot.json").read_text())["figures"]}
    assert figures["track_multiplier"]["value"] == pytest.approx(1.0, abs=0.15)
    assert figures["stop_distance"]["ok"] is True and figures["mass"]["value"] == pytest.approx(5.0)


def test_a_new_robot_file_names_every_key_with_its_meaning() -> None:
    text = template("my_bot", "my_bot.yaml")
    robot = load_robot("burger")
    for section in (robot.base, robot.actuation, robot.limits, robot.lidar, robot.imu, robot.odometry):
        for info in infos(type(section)):
            assert re.search(rf"^  (# )?{info.name}: .*{re.escape(info.help)}", text, re.MULTILINE), info.name
    known = {f"{s}.{i.name}" for s in ("base", "actuation", "limits", "lidar") for i in infos(type(getattr(robot, s)))}
    assert set(EXAMPLE) <= known


def test_every_commented_out_default_of_a_new_file_can_be_switched_on(tmp_path: Path) -> None:
    path = tmp_path / "my_bot.yaml"
    path.write_text(template("my_bot", "my_bot.yaml"), encoding="utf-8")
    plain = load_robot(path)
    path.write_text(re.sub(r"^  # (\w+: )", r"  \1", template("my_bot", "my_bot.yaml"), flags=re.MULTILINE), "utf-8")
    assert load_robot(path) == plain


@pytest.mark.parametrize("name", ["burger", "jackal", "rosbot_xl"])
def test_each_shipped_robot_drives_as_its_file_declares(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["robot", "check", name, "--strict"]) == 0
    assert f"{name}: valid" in capsys.readouterr().out


def test_a_robot_that_does_not_turn_as_declared_misses_its_target(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "my_bot.yaml"
    text = template("my_bot", "my_bot.yaml").replace("# track_multiplier: 1.0", "track_multiplier: 1.4")
    path.write_text(text, encoding="utf-8")
    assert main(["robot", "check", str(path)]) == 0
    assert re.search(r"track_multiplier_off.*MISSED", capsys.readouterr().out)
    assert main(["robot", "check", str(path), "--strict"]) == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("mass_kg: 5.0", "mass_kg: -5.0"), ["my_bot.yaml", "mass_kg", "-5.0", "[0.1, 1000.0]"]),
        (("mass_kg: 5.0", "mass_kg: .nan"), ["my_bot.yaml", "mass_kg", "nan"]),
        (("  mass_kg: 5.0", "  # mass_kg: 5.0"), ["my_bot.yaml", "mass_kg is missing"]),
        (("  mass_kg: 5.0", "  mas_kg: 5.0"), ["my_bot.yaml", "unknown key mas_kg", "mass_kg"]),
        (("track_m: 0.28", "track_m: 0.4"), ["my_bot.yaml", "base.footprint_m", "base.track_m = 0.4"]),
        (("z_m: 0.2 ", "z_m: 0.1 "), ["my_bot.yaml", "lidar.z_m = 0.1", "inside of the body", "0.15"]),
    ],
)
def test_a_bad_file_ends_with_status_2_and_one_sentence(
    change: tuple[str, str], words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "my_bot.yaml"
    text = template("my_bot", "my_bot.yaml")
    assert text.count(change[0]) == 1
    path.write_text(text.replace(*change), encoding="utf-8")
    assert main(["robot", "check", str(path)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("dsac-robot: ") and said.count("\n") == 1
    for word in words:
        assert word in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["new", "my bot"], ["'my bot'", "letters"]),
        (["new", "bot", "--out", "bot.yml"], ["bot.yml", ".yaml"]),
        (["new", "taken"], ["taken.yaml", "exists"]),
        (["check", "unicycle"], ["'unicycle'", "burger, jackal, rosbot_xl"]),
        (["check", "no_such.yaml"], ["no_such.yaml", "cannot be read"]),
    ],
)
def test_bad_arguments_end_with_status_2_and_are_named(
    arguments: list[str],
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("taken.yaml").write_text("name: taken\n", encoding="utf-8")
    assert main(["robot", *arguments]) == 2
    said = capsys.readouterr().err
    for word in words:
        assert word in said
    assert Path("taken.yaml").read_text(encoding="utf-8") == "name: taken\n"


def test_a_lidar_that_gives_its_first_bearing_twice_is_a_full_turn(tmp_path: Path) -> None:
    """Common drivers divide the turn by the beams less one: the last beam looks where the first does."""
    path = tmp_path / "my_bot.yaml"
    text = template("my_bot", "my_bot.yaml").replace("beams: 720", "beams: 360")
    path.write_text(text.replace("increment_rad: 0.00872665", f"increment_rad: {math.tau / 359:.8f}"), encoding="utf-8")
    robot = load_robot(path)
    post = np.array([[-1.5, 0.02, 0.3]])  # behind, where the first and the last beam look
    seen = cast(robot.lidar, (0.0, 0.0, 0.0), post)
    assert seen[0] == pytest.approx(1.15, abs=0.01) and seen[-1] == pytest.approx(seen[0], abs=1e-5)
    too_many = text.replace("increment_rad: 0.00872665", f"increment_rad: {math.tau / 358:.8f}")
    path.write_text(too_many, encoding="utf-8")
    with pytest.raises(ParameterError, match="more than a full turn"):
        load_robot(path)


def test_a_check_says_where_the_shipped_guard_does_not_fit_the_robot() -> None:
    robot = load_robot("rosbot_xl")
    assert not guard_notes(robot)
    slow = replace(robot, lidar=replace(robot.lidar, rate_hz=5.0))
    assert [note.rsplit(": ")[1] for note in guard_notes(slow)] == [
        "scan_timeout_s is 0.3 instead of 0.15",
        "command_timeout_s is 0.36 instead of 0.18",
    ]
    late = replace(robot, actuation=replace(robot.actuation, action_delay_s=0.2))
    assert len(guard_notes(late)) == 1 and "reaction_s = 0.1 must be at least 0.24" in guard_notes(late)[0]


def test_a_check_says_that_a_skid_steer_base_without_side_slip_is_too_good() -> None:
    robot = load_robot("jackal")
    assert not any("side_slip_s" in note for note in notes(robot))
    ideal = replace(robot, actuation=replace(robot.actuation, side_slip_s=0.0))
    (note,) = (note for note in notes(ideal) if "side_slip_s" in note)
    assert note.startswith("NOTE actuation.side_slip_s = 0: a skid-steer base slides")
    wheels = load_robot("burger")
    ideal = replace(wheels, actuation=replace(wheels.actuation, side_slip_s=0.0))
    assert not any("side_slip_s" in note for note in notes(ideal))


def test_a_new_robot_file_says_how_side_slip_is_measured() -> None:
    (line,) = (line for line in template("my_bot", "my_bot.yaml").splitlines() if "side_slip_s:" in line)
    assert "0.10 to 0.15 for skid_steer" in line and "Measure it" in line
    slips = [load_robot(name).actuation.side_slip_s for name in ("jackal", "rosbot_xl")]
    assert all(0.10 <= slip <= 0.15 for slip in slips)


def test_a_check_counts_the_values_that_are_nobodys_yet(tmp_path: Path) -> None:
    path = tmp_path / "my_bot.yaml"
    text = template("my_bot", "my_bot.yaml")
    path.write_text(text, encoding="utf-8")
    (note,) = unfilled(str(path))
    assert f"{len(EXAMPLE)} values" in note
    path.write_text(text.replace("[?]", "[measured]"), encoding="utf-8")
    assert not unfilled(str(path)) and not unfilled("jackal")
