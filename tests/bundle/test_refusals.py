"""Everything that is not the very bundle that was signed is refused, with a message that names the file."""

import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from dsac_robot.bundle import manifest as manifest_module
from dsac_robot.bundle.card import Card
from dsac_robot.bundle.deployed import load_bundle
from dsac_robot.bundle.errors import BundleError
from dsac_robot.bundle.keys import generate_key, load_private_key, load_trusted_keys, public_of, write_key
from dsac_robot.bundle.manifest import manifest_of, parse_manifest, sign_bundle, signature_of, verify_bundle
from dsac_robot.bundle.write import write_bundle

FILES = ("card.json", "policy.onnx", "monitor.onnx", "MANIFEST", "MANIFEST.sig")


def refused(folder: Path, trusted: Path, message: str, allow_unsigned: bool = False) -> None:
    with pytest.raises(BundleError, match=message):
        load_bundle(folder, trusted, allow_unsigned)


def resign(folder: Path, key: Ed25519PrivateKey, files: dict[str, bytes], manifest: bytes | None = None) -> None:
    """Write files with a MANIFEST (by default the right one) and a signature that fits it."""
    for old in folder.iterdir():
        old.unlink()
    manifest = manifest_of(files) if manifest is None else manifest
    files = {**files, "MANIFEST": manifest, "MANIFEST.sig": signature_of(manifest, key)}
    for name, content in files.items():
        (folder / name).write_bytes(content)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, card: Card, models, key) -> tuple[Path, Path]:
    """A bundle and its trusted keys for tests that put back what they changed."""
    base = tmp_path_factory.mktemp("shared")
    (base / "trusted").mkdir()
    (base / "trusted" / "release.pub").write_text(public_of(key, "test release").to_line())
    return write_bundle(base / "bundle", card, *models, key), base / "trusted"


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_one_flipped_bit_anywhere_is_refused(shared: tuple[Path, Path], name: str, data: st.DataObject) -> None:
    folder, trusted = shared
    path = folder / name
    original = path.read_bytes()
    position = data.draw(st.integers(0, len(original) - 1))
    bit = data.draw(st.integers(0, 7))
    path.write_bytes(original[:position] + bytes([original[position] ^ 1 << bit]) + original[position + 1 :])
    try:
        named = "MANIFEST|unknown key" if name.startswith("MANIFEST") else f"{name}: altered"
        refused(folder, trusted, named)
    finally:
        path.write_bytes(original)


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_a_cut_off_file_is_refused(shared: tuple[Path, Path], name: str, data: st.DataObject) -> None:
    folder, trusted = shared
    path = folder / name
    original = path.read_bytes()
    path.write_bytes(original[: data.draw(st.integers(0, len(original) - 1))])
    try:
        refused(folder, trusted, "MANIFEST" if name.startswith("MANIFEST") else f"{name}: truncated")
    finally:
        path.write_bytes(original)


def test_an_appended_byte_is_refused(bundle_dir: Path, trusted: Path) -> None:
    with open(bundle_dir / "policy.onnx", "ab") as stream:
        stream.write(b"\0")
    refused(bundle_dir, trusted, r"policy\.onnx: altered")


@pytest.mark.parametrize("name", ["card.json", "policy.onnx", "monitor.onnx"])
@pytest.mark.parametrize("allow_unsigned", [False, True])
def test_a_missing_file_is_refused(bundle_dir: Path, trusted: Path, name: str, allow_unsigned: bool) -> None:
    (bundle_dir / name).unlink()
    refused(bundle_dir, trusted, f"{name}: missing", allow_unsigned)


def test_a_bundle_without_manifest_is_refused(bundle_dir: Path, trusted: Path) -> None:
    (bundle_dir / "MANIFEST").unlink()
    refused(bundle_dir, trusted, "no MANIFEST", allow_unsigned=True)


@pytest.mark.parametrize("extra", ["notes.txt", ".hidden", "policy.onnx.data"])
def test_an_extra_file_is_refused(bundle_dir: Path, trusted: Path, extra: str) -> None:
    (bundle_dir / extra).write_text("x")
    refused(bundle_dir, trusted, f"{re.escape(extra)}: extra file")


def test_a_folder_and_a_pipe_inside_are_refused(bundle_dir: Path, trusted: Path) -> None:
    (bundle_dir / "sub").mkdir()
    refused(bundle_dir, trusted, "sub: not a regular file")
    (bundle_dir / "sub").rmdir()
    os.mkfifo(bundle_dir / "zpipe")
    refused(bundle_dir, trusted, "zpipe: not a regular file")


def test_a_symbolic_link_is_refused_even_to_the_right_bytes(bundle_dir: Path, trusted: Path, tmp_path: Path) -> None:
    (bundle_dir / "policy.onnx").rename(tmp_path / "policy.onnx")
    (bundle_dir / "policy.onnx").symlink_to(tmp_path / "policy.onnx")
    refused(bundle_dir, trusted, r"policy\.onnx: a symbolic link")


def test_a_directory_that_is_not_there_or_a_file_is_refused(tmp_path: Path, trusted: Path) -> None:
    refused(tmp_path / "nowhere", trusted, "nowhere: no bundle can be read there")
    (tmp_path / "file").write_text("x")
    refused(tmp_path / "file", trusted, "file: no bundle can be read there")


def test_an_unsigned_bundle_is_refused_unless_allowed_and_then_warned_of(bundle_dir: Path, trusted: Path) -> None:
    (bundle_dir / "MANIFEST.sig").unlink()
    refused(bundle_dir, trusted, r"unsigned: there is no MANIFEST\.sig; set allow_unsigned")
    bundle = load_bundle(bundle_dir, trusted, allow_unsigned=True)
    assert bundle.signed_by is None and "unsigned" in bundle.warning


def test_an_unknown_key_is_refused_by_its_fingerprint(bundle_dir: Path, trusted: Path) -> None:
    stranger = generate_key()
    sign_bundle(bundle_dir, stranger)
    fingerprint = public_of(stranger).fingerprint
    refused(bundle_dir, trusted, f"signed by the unknown key {fingerprint}; trusted keys: [0-9a-f]{{16}}")
    refused(bundle_dir, trusted, r"copy its \.pub file to config/trusted_keys")
    assert fingerprint in load_bundle(bundle_dir, trusted, allow_unsigned=True).warning


def test_a_card_of_another_version_is_refused_by_its_path_with_the_next_step(
    bundle_dir: Path, trusted: Path, key: Ed25519PrivateKey, models
) -> None:
    card = json.loads((bundle_dir / "card.json").read_bytes()) | {"horizon": 1}
    files = {"card.json": json.dumps(card).encode(), "policy.onnx": models[0], "monitor.onnx": models[1]}
    resign(bundle_dir, key, files)
    refused(bundle_dir, trusted, f"{bundle_dir}: card.json: unknown key 'horizon'.*export again")


def test_no_trusted_keys_at_all_trust_nobody(bundle_dir: Path, tmp_path: Path) -> None:
    refused(bundle_dir, tmp_path / "no_such_folder", "trusted keys: none")


def test_a_strangers_signature_under_a_known_fingerprint_is_refused(bundle_dir: Path, trusted: Path, key) -> None:
    manifest = (bundle_dir / "MANIFEST").read_bytes()
    forged = generate_key().sign(manifest).hex()
    (bundle_dir / "MANIFEST.sig").write_text(f"ed25519 {public_of(key).fingerprint} {forged}\n")
    refused(bundle_dir, trusted, "MANIFEST: altered: the signature of key", allow_unsigned=True)


def test_unsigned_allowed_still_refuses_altered_files(bundle_dir: Path, trusted: Path) -> None:
    (bundle_dir / "MANIFEST.sig").unlink()
    card = bundle_dir / "card.json"
    card.write_bytes(card.read_bytes().replace(b'"control_period_s": 0.1', b'"control_period_s": 0.2'))
    refused(bundle_dir, trusted, r"card\.json: altered", allow_unsigned=True)


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "a/b", "..", "c:\\x", ".git"])
def test_a_signed_manifest_that_leaves_the_directory_is_refused(bundle_dir, trusted, key, name: str) -> None:
    files = {"card.json": (bundle_dir / "card.json").read_bytes()}
    resign(bundle_dir, key, files, f"{'0' * 64} 1 {name}\n".encode())
    refused(bundle_dir, trusted, "path traversal")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty or cut off"),
        ("{zero} 1 b\n{zero} 1 a\n", "line 2: a is listed twice or out of order"),
        ("{zero} 1 a\n{zero} 1 a\n", "line 2: a is listed twice"),
        ("{zero} 01 a\n", "line 1: expected"),
        ("{zero} -1 a\n", "line 1: expected"),
        ("{zero} 1  a\n", "no name of a bundle's file"),
        ("{zero} 1 a\r\n", "no name of a bundle's file"),
        ("{zero} 1 MANIFEST\n", "no name of a bundle's file"),
        ("{zero} 1 ä\n", "not ASCII"),
        ("0 1 a\n", "line 1: expected"),
        ("{zero} 1 a\n\n", "line 2: expected"),
    ],
)
def test_a_malformed_manifest_is_refused_by_line(text: str, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        parse_manifest(text.format(zero="0" * 64).encode())


@settings(max_examples=100, deadline=None)
@given(
    files=st.dictionaries(st.from_regex(r"[a-z][a-z0-9._-]{0,10}", fullmatch=True), st.binary(max_size=50), min_size=1)
)
def test_a_manifest_reads_back_what_was_written(files: dict[str, bytes]) -> None:
    entries = parse_manifest(manifest_of(files))
    assert {name: size for name, (_, size) in entries.items()} == {name: len(data) for name, data in files.items()}


def test_an_oversized_file_is_refused_without_being_read(bundle_dir: Path, trusted: Path) -> None:
    with open(bundle_dir / "policy.onnx", "r+b") as stream:
        stream.truncate(manifest_module.SIZE_BYTES_MAX + 1)
    refused(bundle_dir, trusted, r"policy\.onnx: too large")


def test_too_many_files_are_refused(bundle_dir: Path, trusted: Path) -> None:
    for i in range(manifest_module.FILES_MAX):
        (bundle_dir / f"f{i}").touch()
    refused(bundle_dir, trusted, "files; a bundle has at most")


def test_what_was_hashed_is_what_is_loaded_even_if_the_file_changes_afterwards(bundle_dir, trusted, models) -> None:
    verified = verify_bundle(bundle_dir, trusted)
    (bundle_dir / "policy.onnx").write_bytes(b"evil")
    assert verified.files["policy.onnx"] == models[0]


def test_card_and_models_must_agree(bundle_dir: Path, trusted: Path, card: Card, models, key) -> None:
    with pytest.raises(BundleError, match="belong together"):
        write_bundle(bundle_dir, card, models[0], None, key)
    plain = replace(card, monitor=None).to_json()
    resign(bundle_dir, key, {"card.json": plain, "policy.onnx": models[0], "monitor.onnx": models[1]})
    refused(bundle_dir, trusted, r"monitor\.onnx: card\.json has no thresholds")
    resign(bundle_dir, key, {"card.json": card.to_json(), "policy.onnx": models[0]})
    refused(bundle_dir, trusted, r"monitor\.onnx: missing: card\.json describes a monitor")
    resign(bundle_dir, key, {"card.json": plain})
    refused(bundle_dir, trusted, r"policy\.onnx: missing: every bundle has one")


def test_writing_replaces_an_older_bundle_whole_and_nothing_else(bundle_dir, trusted, card, models, key) -> None:
    before = load_bundle(bundle_dir, trusted).digest
    write_bundle(bundle_dir, replace(card, name="newer"), *models, key)
    assert load_bundle(bundle_dir, trusted).digest != before
    assert sorted(path.name for path in bundle_dir.iterdir()) == sorted(FILES)
    assert {path.name for path in bundle_dir.parent.iterdir()} == {"bundle", "trusted"}  # nothing temporary is left
    shutil.rmtree(bundle_dir)
    bundle_dir.mkdir()
    (bundle_dir / "thesis.tex").write_text("years of work")
    with pytest.raises(BundleError, match="exists and is no bundle"):
        write_bundle(bundle_dir, card, *models, key)
    assert (bundle_dir / "thesis.tex").read_text() == "years of work"


def test_signing_an_altered_bundle_is_refused(bundle_dir: Path, key) -> None:
    (bundle_dir / "policy.onnx").write_bytes(np.arange(10).tobytes())
    with pytest.raises(BundleError, match=r"policy\.onnx"):
        sign_bundle(bundle_dir, key)


def test_keys_are_private_written_once_and_read_back(tmp_path: Path) -> None:
    key = generate_key()
    public = write_key(key, tmp_path / "release.key", "a release")
    assert (tmp_path / "release.key").stat().st_mode & 0o777 == 0o600
    assert public_of(load_private_key(tmp_path / "release.key")).raw == public.raw
    assert load_trusted_keys(tmp_path) == (public,)
    with pytest.raises(BundleError, match="exists already"):
        write_key(key, tmp_path / "release.key")
    with pytest.raises(BundleError, match=r"must end in \.key"):
        write_key(key, tmp_path / "release.pem")


@pytest.mark.parametrize("text", ["", "short\n", "A" * 43 + "=\nsecond line\n", "A" * 44 + "\n", "é\n"])
def test_a_trusted_key_file_that_is_none_is_refused_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.pub").write_text(text, encoding="utf-8")
    with pytest.raises(BundleError, match=r"bad\.pub"):
        load_trusted_keys(tmp_path)


def test_a_private_key_file_that_is_none_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"none\.key: the private key cannot be read"):
        load_private_key(tmp_path / "none.key")
    (tmp_path / "text.key").write_text("hello")
    with pytest.raises(BundleError, match=r"text\.key: no unencrypted private key"):
        load_private_key(tmp_path / "text.key")
