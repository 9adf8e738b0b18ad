"""The table of the policy and its peers: rows are measured by the BARN command, replaced one by one, and printed."""

import json
from pathlib import Path

import numpy as np
import pytest

from dsac_robot.apps.cli import main
from dsac_robot.apps.docs_table import END, begin_of
from dsac_robot.apps.peers_cmd import COMMAND, table_of

ROOT = Path(__file__).parents[2]
COMMITTED = ROOT / "benchmarks" / "barn_peers.json"


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One open world between two rows of posts."""
    folder = tmp_path_factory.mktemp("BARN")
    model = (
        "<model name='p{0}'><pose>{1} {2} 0 0 0 0</pose><link name='l'><collision name='c'><geometry><cylinder>"
        "<radius>0.075</radius></cylinder></geometry></collision></link></model>"
    )
    posts = [(x, y) for x in (-4.5, 0.5) for y in np.arange(2.0, 14.0, 1.0)]
    models = "".join(model.format(i, x, y) for i, (x, y) in enumerate(posts))
    (folder / "world_1.world").write_text(f"<sdf version='1.6'><world name='w'>{models}</world></sdf>")
    (folder / "path_files").mkdir()
    np.save(folder / "path_files" / "path_1.npy", np.array([[17, row] for row in range(60)]))
    return folder


def peers(worlds: Path, folder: Path, *more: str) -> int:
    common = ["--out", str(folder / "runs"), "--json", str(folder / "peers.json"), "--processes", "1"]
    return main(["peers", "--worlds", str(worlds), *common, *more])


def test_rows_are_measured_one_by_one_and_the_page_shows_all_of_them(worlds: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{begin_of(COMMAND)}\nold\n{END}\nafter\n")
    assert peers(worlds, tmp_path, "--policies", "pursuit", "--guard", "off") == 0
    assert peers(worlds, tmp_path, "--policies", "dwa", "--guard", "on,off", "--docs", str(page)) == 0
    content = json.loads((tmp_path / "peers.json").read_text())
    assert [(row["policy"], row["profile"]) for row in content["rows"]] == [
        ("dwa", "static"),
        ("dwa", "off"),
        ("pursuit", "off"),
    ]
    figures = {figure["name"]: figure["value"] for figure in content["figures"]}
    assert figures["dwa_guard_on_success_rate"] == 1.0
    assert 0.0 < figures["pursuit_guard_off_tick_cpu_ms_median"] < 1000.0
    before, table, after = page.read_text().partition(table_of(content["rows"]))
    assert table
    assert (before[:7], after[-6:]) == ("before\n", "after\n")
    assert "old" not in before + after


def test_what_cannot_be_measured_is_refused_by_name(
    worlds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert peers(worlds, tmp_path, "--guard", "maybe") == 2
    assert "--guard maybe" in capsys.readouterr().err
    assert peers(worlds, tmp_path, "--policies", "teb") == 2
    assert "teb" in capsys.readouterr().err
    assert main(["peers", "--json", str(tmp_path / "none.json")]) == 2
    assert "no rows" in capsys.readouterr().err


def test_a_page_without_a_place_for_the_table_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing\n")
    assert main(["peers", "--json", str(COMMITTED), "--docs", str(page)]) == 2
    assert "no place" in capsys.readouterr().err
    assert page.read_text() == "nothing\n"


def test_the_page_shows_the_committed_figures() -> None:
    rows = json.loads(COMMITTED.read_text(encoding="utf-8"))["rows"]
    assert table_of(rows) in (ROOT / "docs" / "barn.md").read_text(encoding="utf-8")
