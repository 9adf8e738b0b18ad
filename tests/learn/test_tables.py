"""docs/training.md names every setting of the code, and every column of the log."""

from pathlib import Path

from dsac_robot.learn.tables import tables
from dsac_robot.learn.trainer import COLUMNS

DOC = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")


def test_the_tables_in_the_docs_are_those_of_the_code() -> None:
    assert tables() in DOC, "replace the tables by what python -m dsac_robot.learn.tables prints"


def test_every_logged_number_is_explained() -> None:
    logged = DOC.partition("## What is logged")[2].partition("\n## ")[0]
    missing = [name for name in COLUMNS if f"`{name}`" not in logged]
    assert not missing
