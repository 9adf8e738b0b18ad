"""``dsac-robot robot``: a new robot file loads and drives as it is; a check says what is wrong or what comes out."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from dsac_robot.apps.cli import main
from dsac_robot.apps.robot_template import EXAMPLE, template
from dsac_robot.core.params import infos
from dsac_robot.core.robot import load_robot


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
