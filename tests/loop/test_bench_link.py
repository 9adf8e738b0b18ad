"""``dsac-robot bench link`` on the firmware in QEMU, briefly: it measures what its targets are about."""

import json
from pathlib import Path

from dsac_robot.apps.cli import main


def test_no_damaged_frame_is_accepted_and_every_frame_is_accounted_for(tmp_path: Path) -> None:
    out = tmp_path / "link.json"
    assert main(["bench", "link", "--seconds", "1", "--frames", "500", "--json", str(out)]) == 0
    figures = {figure["name"]: figure for figure in json.loads(out.read_text("utf-8"))["figures"]}
    for name in ("quiet_lost_to_base", "quiet_lost_to_host", "quiet_damaged", "bit_errors_frames_unaccounted"):
        assert figures[name]["value"] == 0, name
    assert figures["bit_errors_frames_damaged"]["value"] > 0
    assert figures["corrupted_accepted_by_base"]["value"] == figures["corrupted_accepted_by_host"]["value"] == 0
    assert figures["quiet_commands_per_s"]["value"] > 50


def test_a_base_that_is_not_there_is_bad_input(capsys) -> None:
    assert main(["bench", "link", "--port", "socket://127.0.0.1:1"]) == 2
    assert "socket://127.0.0.1:1" in capsys.readouterr().err
