"""``dsac-robot bench runtime``: its figures, its targets, and what it refuses."""

import json
from pathlib import Path

import pytest

from dsac_robot.apps.cli import main

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden" / "card_1" / "bundle"
TARGETS = {
    "bare_p50_us": 15.0,
    "infer_over_bare_p50": 1.5,
    "rss_growth_mb": 1.0,
    "fuzz_altered_accepted": 0.0,
    "fuzz_crashes": 0.0,
    "fuzz_slowest_s": 2.0,
}


@pytest.fixture
def robot_file(tmp_path: Path) -> Path:
    """The robot of the golden bundle's card."""
    from dsac_robot.bundle.card import Card
    from dsac_robot.core.files import dump_yaml
    from dsac_robot.core.params import as_dict
    from dsac_robot.core.robot import load_robot
    from tests.golden.robots import robot_of_card

    robot = robot_of_card(load_robot("jackal"), Card.from_json((GOLDEN / "card.json").read_bytes()))
    path = tmp_path / "golden.yaml"
    path.write_text(dump_yaml(as_dict(robot)), encoding="utf-8")
    return path


def test_it_measures_a_tick_memory_and_the_fuzz_against_their_targets(tmp_path: Path, robot_file: Path) -> None:
    out = tmp_path / "runtime.json"
    words = ["bench", "runtime", str(GOLDEN), "--allow-unsigned", "--robot", str(robot_file)]
    assert main([*words, "--calls", "3000", "--fuzz", "40", "--json", str(out)]) == 0
    report = json.loads(out.read_text())
    figures = {figure["name"]: figure for figure in report["figures"]}
    assert {name: figures[name]["target"] for name in TARGETS} == TARGETS
    assert figures["fuzz_cases"]["value"] == 40.0
    for name in ("fuzz_altered_accepted", "fuzz_crashes", "fuzz_slowest_s", "rss_growth_mb"):
        assert figures[name]["ok"], figures[name]
    assert 0.0 < figures["bare_p50_us"]["value"] < figures["infer_p50_us"]["value"]
    assert figures["infer_p50_us"]["value"] <= figures["infer_with_samples_p50_us"]["value"]
    assert figures["infer_p50_us"]["value"] <= figures["infer_p99_us"]["value"]
    assert len(report["digest"]) == 64 and report["calls"] == 3000


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--calls", "10"], "--calls 10 must be at least 1000"),
        (["--fuzz", "-1"], "--fuzz -1 must be at least 0"),
        ([str(ROOT / "nowhere")], "no bundle can be read there"),
        ([str(GOLDEN)], "unknown key"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(words: list[str], message: str, capsys) -> None:
    assert main(["bench", "runtime", *words]) == 2
    assert message in capsys.readouterr().err
