"""What docs/bundle.md and docs/card.schema.json say is so."""

import json
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from dsac_robot.bundle.card import Card
from dsac_robot.bundle.schema import card_schema

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "bundle.md").read_text(encoding="utf-8")
CARDS = [*ROOT.glob("config/bundles/*/card.json"), *ROOT.glob("tests/golden/*/bundle/card.json")]


def test_the_five_lines_of_the_page_run_as_they_are_written_beside_a_bundle(bundle_dir: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    lines = example.strip().splitlines()
    assert len(lines) == 5
    program = example + "\nprint('RAN', float(speed_mps), float(yaw_rate_radps), 'torch' in __import__('sys').modules)"
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=bundle_dir, capture_output=True, text=True, check=False, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    word, *numbers, torch_loaded = ran.stdout.split()
    assert word == "RAN" and torch_loaded == "False"
    assert -0.5 <= float(numbers[0]) <= 2.0 and -2.0 <= float(numbers[1]) <= 2.0


def test_the_schema_in_the_docs_is_what_the_code_makes() -> None:
    text = (ROOT / "docs" / "card.schema.json").read_text(encoding="utf-8")
    assert json.loads(text) == card_schema(), "run: dsac-robot bundle schema > docs/card.schema.json"
    jsonschema.Draft202012Validator.check_schema(card_schema())
    assert "card.schema.json" in PAGE


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.parent.as_posix()[-25:])
def test_every_committed_card_satisfies_the_schema(path: Path) -> None:
    jsonschema.Draft202012Validator(card_schema()).validate(json.loads(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        (None, "extra", 1),
        ("lidar", "beams", "720"),
        ("lidar", "beams", 720.5),
        ("action", "low", [0.0]),
        ("action", "meaning", "wheels"),
        (None, "card_version", 2),
        ("geometry", "colour", "red"),
        ("monitor", "scores", None),
        ("recorded", "seeds", ["0"]),
    ],
)
def test_what_the_code_refuses_for_its_type_the_schema_refuses(
    card: Card, section: str | None, key: str, value: object
) -> None:
    content = json.loads(card.to_json())
    validator = jsonschema.Draft202012Validator(card_schema())
    assert validator.is_valid(content)
    (content if section is None else content[section])[key] = value
    assert not validator.is_valid(content)
