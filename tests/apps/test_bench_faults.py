"""``bench faults``: its rows, its table in docs/safety.md, and that each fault of the guard's promise is among them."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from dsac_robot.apps.bench_faults import COMMAND, Row, markdown, merged, read_rows, speeds_of
from dsac_robot.apps.cli import main
from dsac_robot.apps.docs_table import END, begin_of, written
from dsac_robot.apps.faults_cases import INPUTS, PROCESSES
from dsac_robot.core.params import ParameterError
from dsac_robot.core.reasons import Reason

ROOT = Path(__file__).resolve().parents[2]
SAVED = ROOT / "benchmarks" / "faults.json"
ROW = Row("lidar nan", 2.0, 1.94, 0.6, 0.62, "SCAN_ALL_INVALID", ("SCAN_ALL_INVALID",), False, True)


def test_every_fault_at_every_speed_is_in_the_committed_file_and_keeps_the_promise() -> None:
    rows = {(row.fault, row.asked_mps): row for row in read_rows(SAVED)}
    wanted = {(case.name, speed) for case in (*INPUTS, *PROCESSES) for speed in speeds_of("0.5,1,2")}
    assert set(rows) == wanted
    assert [key for key, row in rows.items() if not row.ok] == []


def test_the_page_holds_the_table_of_the_committed_file() -> None:
    page = ROOT / "docs" / "safety.md"
    assert written(page, COMMAND, markdown(read_rows(SAVED))) == page.read_text(encoding="utf-8")


def test_each_process_is_killed_stopped_and_slowed() -> None:
    tried = {(case.process, case.how) for case in PROCESSES}
    assert {(p, h) for p in ("policy", "ood_monitor", "safety_guard") for h in ("kill", "stop", "slow")} <= tried


def test_each_fault_of_inputs_has_a_reason_that_is_a_fault() -> None:
    assert all(case.reasons and Reason.NONE not in case.reasons for case in INPUTS)
    assert len({case.name for case in (*INPUTS, *PROCESSES)}) == len(INPUTS) + len(PROCESSES)


@pytest.mark.parametrize(
    "change",
    [
        {"time_s": 1.01},
        {"distance_m": 1.21},
        {"reason": "ODOM_JUMP"},
        {"touched": True},
        {"recovered": False},
    ],
    ids=str,
)
def test_a_row_that_breaks_the_promise_is_not_ok_and_bold_in_the_table(change: dict[str, object]) -> None:
    assert ROW.ok
    assert "**" not in markdown([ROW])
    broken = replace(ROW, **change)
    assert not broken.ok
    assert "**" in markdown([broken])


def test_a_run_of_some_faults_replaces_their_rows_and_leaves_the_others(tmp_path: Path) -> None:
    other = replace(ROW, fault="command NaN")
    rows = merged([ROW, other, replace(ROW, fault="no such fault")], [replace(ROW, time_s=0.7)])
    assert [(row.fault, row.time_s) for row in rows] == [("command NaN", 0.6), ("lidar nan", 0.7)]


def test_the_table_can_be_written_without_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved, page = tmp_path / "faults.json", tmp_path / "page.md"
    saved.write_text(json.dumps({"faults": [asdict(ROW) | {"ok": True}]}), encoding="utf-8")
    page.write_text(f"before\n{begin_of(COMMAND)}\nold\n{END}\nafter\n", encoding="utf-8")
    assert main(["bench", "faults", "--only", "none", "--json", str(saved), "--docs", str(page)]) == 0
    assert page.read_text(encoding="utf-8") == f"before\n{begin_of(COMMAND)}\n\n{markdown([ROW])}\n\n{END}\nafter\n"
    assert "| lidar nan | `SCAN_ALL_INVALID` | 0.60 s, 0.62 m |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--speeds", "fast"], "0.5,1,2"),
        (["--speeds", "2.5"], "[0.1, 2]"),
        (["--only", "meteor"], "lidar nan"),
        (["--real-time-factor", "2"], "[0.05, 1]"),
    ],
)
def test_bad_input_ends_with_status_2_and_is_named(
    arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "faults", *arguments]) == 2
    assert named in capsys.readouterr().err


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text("{}", encoding="utf-8")
    with pytest.raises(ParameterError, match="bench faults"):
        read_rows(other)
