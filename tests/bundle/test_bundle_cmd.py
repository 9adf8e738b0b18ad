"""The commands `bundle` and `keys`, as a user calls them."""

import argparse
import shutil
from pathlib import Path

import pytest

from dsac_robot.apps.bundle_cmd import register


def command(*words: object) -> int:
    parser = argparse.ArgumentParser(prog="dsac-robot")
    register(parser.add_subparsers(required=True))
    args = parser.parse_args([str(word) for word in words])
    return int(args.run(args))


def test_verify_says_who_signed_and_that_the_robot_fits(bundle_dir: Path, trusted: Path, capsys) -> None:
    assert command("bundle", "verify", bundle_dir, "--trusted", trusted, "--robot", "jackal") == 0
    out = capsys.readouterr().out
    assert "ok, signed by" in out and "test release" in out and "fits robot jackal" in out and "p50" in out


def test_verify_refuses_with_status_2_and_the_reason_on_stderr(bundle_dir: Path, trusted: Path, capsys) -> None:
    (bundle_dir / "policy.onnx").write_bytes(b"")
    assert command("bundle", "verify", bundle_dir, "--trusted", trusted) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and "policy.onnx: truncated" in captured.err


def test_show_prints_the_contract_the_monitor_and_the_record(bundle_dir: Path, trusted: Path, capsys) -> None:
    assert command("bundle", "show", bundle_dir, "--trusted", trusted) == 0
    out = capsys.readouterr().out
    for part in (
        "test_navigate: task navigate",
        "term scan_sectors: float32 [3, 36] in m",
        "lidar.beams = 720",
        "action.high = (2.0, 2.0)",
        "distance: caution > 50.0, alarm > 100.0",
        "score_mean = 0.30000000000000004",
        "untuned",
        "control_period_s = 0.1",
    ):
        assert part in out


def test_a_new_key_signs_a_bundle_that_is_believed_where_its_public_half_lies(
    bundle_dir: Path, tmp_path: Path, capsys
) -> None:
    (bundle_dir / "MANIFEST.sig").unlink()
    assert command("bundle", "verify", bundle_dir, "--trusted", tmp_path) == 2
    assert command("bundle", "verify", bundle_dir, "--trusted", tmp_path, "--allow-unsigned") == 0
    captured = capsys.readouterr()
    assert "NOT TRUSTED: unsigned" in captured.out and "WARNING: unsigned" in captured.err
    assert command("keys", "new", "--out", tmp_path / "mine.key", "--comment", "mine") == 0
    assert command("bundle", "sign", bundle_dir, "--key", tmp_path / "mine.key") == 0
    assert command("bundle", "verify", bundle_dir, "--trusted", tmp_path) == 0
    shutil.rmtree(bundle_dir)
    assert command("bundle", "sign", bundle_dir, "--key", tmp_path / "mine.key") == 2


@pytest.mark.parametrize("words", [("bundle",), ("keys",), ("bundle", "verify"), ("keys", "new")])
def test_an_incomplete_command_is_a_usage_error(words: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as stopped:
        command(*words)
    assert stopped.value.code == 2
