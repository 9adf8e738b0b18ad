"""What must not be in the repository: private keys, paths of one machine, large files."""

import base64
import binascii
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_public_key,
)

ROOT = Path(__file__).resolve().parent.parent
TRUSTED_KEYS = "config/trusted_keys/"
SIZE_BYTES_MAX = 2 * 1024 * 1024

# Written in pieces, so that this file does not match itself.
PEM_PRIVATE = re.compile(rb"-----BEGIN [A-Z0-9 ]*" + rb"PRIVATE KEY-----")
PKCS8_ED25519 = bytes.fromhex("302e020100300506032b6570" + "04220420")
MACHINE_PATH = re.compile(rb"(?<![\w.~$}-])/(?:wor" + rb"k|roo" + rb"t|hom" + rb"e|Users)/[\w.]")
SEED_TEXT = re.compile(rb"(?<![0-9A-Za-z+/_-])(?:[0-9a-fA-F]{64}|[A-Za-z0-9+/_-]{43}=?)(?![0-9A-Za-z+/=_-])")


def tracked_files() -> dict[str, bytes]:
    """Return the content of every tracked file by its path in the repository."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    paths = [path for path in listing.split("\0") if path and (ROOT / path).is_file()]
    return {path: (ROOT / path).read_bytes() for path in paths}


def key_candidates(content: bytes) -> Iterator[bytes]:
    """Yield each 32 bytes in a file that could be an Ed25519 key: the file itself, hex and base64 words in it."""
    if len(content) in (32, 64):
        yield content[:32]
    for word in SEED_TEXT.findall(content):
        try:
            raw = bytes.fromhex(word.decode()) if len(word) == 64 else base64.urlsafe_b64decode(word[:43] + b"=")
        except (ValueError, binascii.Error):
            continue
        yield raw


def public_keys(files: dict[str, bytes]) -> set[bytes]:
    """Return the trusted public keys, raw, whichever way config/trusted_keys writes them."""
    found = set()
    for path, content in files.items():
        if path.startswith(TRUSTED_KEYS):
            found |= set(key_candidates(content))
            if b"-----BEGIN PUBLIC KEY-----" in content:
                found.add(load_pem_public_key(content).public_bytes(Encoding.Raw, PublicFormat.Raw))
    return found


def private_keys(files: dict[str, bytes]) -> list[str]:
    """Return one sentence for each file that holds a private key."""
    trusted = public_keys(files)
    found = []
    for path, content in files.items():
        if PEM_PRIVATE.search(content) or PKCS8_ED25519 in content:
            found.append(f"{path} holds a private key")
        elif len(content) in (32, 64) and not path.startswith(TRUSTED_KEYS) and not is_text(content):
            found.append(f"{path} is {len(content)} raw bytes, as a private Ed25519 key or seed is")
        elif any(public_of(seed) in trusted for seed in key_candidates(content)):
            found.append(f"{path} holds the private half of a key in {TRUSTED_KEYS}")
    return found


def public_of(seed: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def is_text(content: bytes) -> bool:
    return all(byte in (9, 10, 13) or 32 <= byte < 127 for byte in content)


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    found = tracked_files()
    assert "setup.py" in found
    return found


def test_no_private_key_is_committed(files: dict[str, bytes]) -> None:
    assert private_keys(files) == []


def test_a_private_key_is_caught_in_every_form() -> None:
    key = Ed25519PrivateKey.generate()
    seed = key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    forms = {
        "pem": key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        "openssh": key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()),
        "der": key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
        "raw": seed,
        "hex": f"seed: {seed.hex()}\n".encode(),
        "base64": b'{"seed": "' + base64.b64encode(seed) + b'"}',
        "config/trusted_keys/raw": seed,
    }
    for path, content in forms.items():
        for trusted in (public, public.hex().encode(), base64.b64encode(public) + b"\n", public_pem(key)):
            assert private_keys({path: content, "config/trusted_keys/release.pub": trusted}), path


def public_pem(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def test_public_keys_signatures_and_digests_are_no_private_keys() -> None:
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    harmless = {
        "config/trusted_keys/release.pub": public_pem(key),
        "config/trusted_keys/raw.pub": public,
        "config/bundles/a/MANIFEST": b"0123456789abcdef" * 4 + b"  card.json\n",
        "resource/dsac_robot": b"",
    }
    assert private_keys(harmless) == []


def test_no_file_names_a_place_on_one_machine(files: dict[str, bytes]) -> None:
    found = []
    for path, content in files.items():
        for hit in MACHINE_PATH.finditer(content):
            line = content.count(b"\n", 0, hit.start()) + 1
            found.append(f"{path}:{line} {content[hit.start() : hit.start() + 40]!r}")
    assert not found, "\n".join(found)


def test_a_machine_path_is_caught_and_a_relative_one_is_not() -> None:
    assert MACHINE_PATH.search(b'open("/ho' + b'me/ann/x")')
    assert MACHINE_PATH.search(b"\x12/wor" + b"k/main/learn.py")
    assert not MACHINE_PATH.search(b"https://example.org/a /opt/ros/humble ../work/x dsac_robot/home/x ~/work/x")


def test_no_tracked_file_is_larger_than_two_mebibytes(files: dict[str, bytes]) -> None:
    assert [path for path, content in files.items() if len(content) > SIZE_BYTES_MAX] == []
