"""The commands `bundle` and `keys`, as a user calls them."""

import argparse
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from dsac_robot.apps.bundle_cmd import register
from dsac_robot.bundle.card import Card
from dsac_robot.bundle.engine_cache import gpu_name
from dsac_robot.bundle.keys import generate_key
from dsac_robot.bundle.manifest import sign_bundle
from dsac_robot.bundle.write import write_bundle

from .conftest import policy_bytes


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
    assert "NOT TRUSTED: unsigned" in captured.out and "NOT TRUSTED: unsigned" in captured.err
    assert command("keys", "new", "--out", tmp_path / "mine.key", "--comment", "mine") == 0
    assert command("bundle", "sign", bundle_dir, "--key", tmp_path / "mine.key") == 0
    assert command("bundle", "verify", bundle_dir, "--trusted", tmp_path) == 0
    shutil.rmtree(bundle_dir)
    assert command("bundle", "sign", bundle_dir, "--key", tmp_path / "mine.key") == 2


@pytest.mark.parametrize("signature", ["none", "of a stranger"])
def test_show_and_diff_read_a_bundle_that_nobody_known_signed_and_shout(
    signature: str, bundle_dir: Path, trusted: Path, capsys
) -> None:
    (bundle_dir / "MANIFEST.sig").unlink()
    if signature == "of a stranger":
        sign_bundle(bundle_dir, generate_key())
    named = "unsigned" if signature == "none" else "signed by the unknown key"
    for words in (("show", bundle_dir), ("diff", bundle_dir, bundle_dir)):
        assert command("bundle", *words, "--trusted", trusted) == 0
        captured = capsys.readouterr()
        assert f"WARNING: {bundle_dir} is NOT TRUSTED: {named}" in captured.err and captured.out
    assert command("bundle", "verify", bundle_dir, "--trusted", trusted) == 2


def test_show_and_diff_refuse_a_bundle_that_was_altered(bundle_dir: Path, trusted: Path, capsys) -> None:
    card = bundle_dir / "card.json"
    card.write_bytes(card.read_bytes().replace(b'"control_period_s": 0.1', b'"control_period_s": 0.2'))
    for signed in (True, False):
        if not signed:
            (bundle_dir / "MANIFEST.sig").unlink()
        for words in (("show", bundle_dir), ("diff", bundle_dir, bundle_dir)):
            assert command("bundle", *words, "--trusted", trusted) == 2
            captured = capsys.readouterr()
            assert captured.out == "" and "card.json: altered" in captured.err


def test_a_shipped_bundle_goes_by_its_name(capsys, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert command("bundle", "verify", "navigate_jackal", "--robot", "jackal") == 0
    assert command("bundle", "show", "navigate_jackal") == 0
    assert command("bundle", "diff", "navigate_jackal", "navigate_jackal") == 0
    assert "no difference" in capsys.readouterr().out
    for name in ("navigate_nobody", "../bundles/navigate_jackal"):
        assert command("bundle", "show", name) == 2
        assert "no bundle can be read there" in capsys.readouterr().err


@pytest.mark.parametrize("words", [("bundle",), ("keys",), ("bundle", "verify"), ("keys", "new")])
def test_an_incomplete_command_is_a_usage_error(words: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as stopped:
        command(*words)
    assert stopped.value.code == 2


def test_diff_names_the_contract_first_and_says_where_nothing_differs(
    bundle_dir: Path, trusted: Path, tmp_path: Path, card: Card, models, key, capsys
) -> None:
    lidar = replace(card.lidar, x_m=0.3)
    monitor = replace(card.monitor, clear_after=7)
    other = replace(card, name="other", lidar=lidar, monitor=monitor)
    write_bundle(tmp_path / "other", other, *models, key)
    assert command("bundle", "diff", bundle_dir, bundle_dir, "--trusted", trusted) == 0
    assert capsys.readouterr().out == "no difference\n"
    assert command("bundle", "diff", bundle_dir, tmp_path / "other", "--trusted", trusted) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["contract (must match the robot)", f"  lidar.x_m: {card.lidar.x_m} -> 0.3"]
    assert "  monitor.clear_after: 3 -> 7" in lines and "  name: 'test_navigate' -> 'other'" in lines
    assert not any("policy.onnx" in line for line in lines)
    assert command("bundle", "diff", bundle_dir, tmp_path / "nowhere", "--trusted", trusted) == 2
    assert "nowhere: no bundle can be read there" in capsys.readouterr().err


def test_diff_shows_a_model_that_was_exchanged_and_a_monitor_that_is_gone(
    bundle_dir: Path, trusted: Path, tmp_path: Path, card: Card, models, key, capsys
) -> None:
    write_bundle(tmp_path / "other", replace(card, monitor=None), policy_bytes(card.terms, 0.02), None, key)
    assert command("bundle", "diff", bundle_dir, tmp_path / "other", "--trusted", trusted) == 0
    out = capsys.readouterr().out
    assert "policy.onnx: " in out and "monitor.onnx: " in out and "-> (none)" in out


def test_build_engine_says_what_it_would_build_and_what_is_missing_here(
    bundle_dir: Path, trusted: Path, tmp_path: Path, capsys
) -> None:
    if gpu_name() is not None:
        assert command("bundle", "build-engine", bundle_dir, "--trusted", trusted, "--out", tmp_path) == 0
        return
    assert command("bundle", "build-engine", bundle_dir, "--trusted", trusted, "--out", tmp_path) == 2
    captured = capsys.readouterr()
    assert "policy.onnx: " in captured.out and "weights float32" in captured.out
    assert "tensorrt is not installed" in captured.err or "no CUDA device" in captured.err


def test_schema_is_printed_as_json(capsys) -> None:
    assert command("bundle", "schema") == 0
    assert json.loads(capsys.readouterr().out)["properties"]["card_version"] == {"const": 1}
