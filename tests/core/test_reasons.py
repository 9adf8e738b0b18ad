"""The reasons are stable, each has a meaning, and docs/safety.md is up to date with them and with the tests."""

import re
from pathlib import Path

from dsac_robot.core.reasons import MEANINGS, Level, Reason, reasons_markdown

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "safety.md").read_text(encoding="utf-8")


def test_every_reason_has_a_meaning_in_the_order_of_the_numbers() -> None:
    assert list(MEANINGS) == list(Reason) == sorted(Reason)


def test_the_page_holds_the_table_of_reasons_as_it_is_now() -> None:
    assert PAGE.endswith(reasons_markdown()), "python -m dsac_robot.core.reasons prints the table for docs/safety.md"


def test_the_page_names_every_level() -> None:
    assert all(f"| `{level.name}` |" in PAGE for level in Level)


def test_the_tests_that_the_page_names_exist() -> None:
    named = re.findall(r"`(tests/[^`]+\.py)`", PAGE)
    assert len(named) > 10
    assert [name for name in named if not (ROOT / name).is_file()] == []
