"""Tables in the docs that a command writes: what stands between two marks of a page."""

from __future__ import annotations

from pathlib import Path

from dsac_robot.core.params import ParameterError

END = "<!-- end of table -->"


def begin_of(command: str) -> str:
    """The mark before the table that ``command`` writes."""
    return f"<!-- table: {command} -->"


def written(page: Path, command: str, table: str) -> str:
    """The page's text with ``table`` between its two marks. Raises ParameterError where there are none."""
    begin, text = begin_of(command), page.read_text(encoding="utf-8")
    before, found, rest = text.partition(begin)
    _, end, after = rest.partition(END)
    if not found or not end:
        raise ParameterError(f"{page} has no place for the table: write {begin} and {END} into it")
    return f"{before}{begin}\n\n{table}\n\n{END}{after}"


def write_table(page: Path, command: str, table: str) -> None:
    """Put the table into the page. Raises as ``written`` does."""
    page.write_text(written(page, command, table), encoding="utf-8")
