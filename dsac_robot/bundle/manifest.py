"""MANIFEST and its signature: what belongs to a bundle, byte for byte, and who vouches for it.

MANIFEST has one line for each other file, sorted by name: ``<sha256> <size> <name>``. MANIFEST.sig is one line:
``ed25519 <fingerprint of the public key> <signature of the exact bytes of MANIFEST>``, all hexadecimal.

Each file is opened once, without following links, and what was hashed is what is handed on: a file exchanged
afterwards changes nothing.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dsac_robot.bundle.errors import BundleError
from dsac_robot.bundle.keys import TrustedKey, load_trusted_keys, public_of

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

MANIFEST = "MANIFEST"
SIGNATURE = "MANIFEST.sig"
SIZE_BYTES_MAX = 64 * 1024 * 1024
FILES_MAX = 64

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_LINE = re.compile(r"([0-9a-f]{64}) (0|[1-9][0-9]{0,11}) ([^\n]+)")
_SIGNATURE = re.compile(rb"ed25519 ([0-9a-f]{16}) ([0-9a-f]{128})\n")


@dataclass(frozen=True)
class VerifiedBundle:
    """The bytes of a bundle whose MANIFEST they fit. ``signed_by`` is None only where unsigned was allowed."""

    files: Mapping[str, bytes]
    digest: str  # SHA-256 of MANIFEST, hexadecimal: names this bundle in logs and bags
    signed_by: TrustedKey | None
    warning: str = ""  # what is wrong with the signature, where unsigned was allowed


def verify_bundle(
    directory: Path, trusted: Path | Sequence[TrustedKey], allow_unsigned: bool = False
) -> VerifiedBundle:
    """Read a bundle once and check it against its MANIFEST and the MANIFEST against the trusted keys.

    ``trusted`` is a directory of .pub files, or the keys. ``allow_unsigned`` accepts a missing signature and one of
    an unknown key, with the reason in ``warning``; files must fit the MANIFEST, and a known key its signature, always.

    Raises BundleError naming the file that is altered, truncated, missing, too much, a link, not regular, too large or
    named in a way that leaves the directory, or saying that the signature is missing, malformed, of an unknown key or
    does not fit.
    """
    content = _read_directory(directory)
    manifest, signature = content.pop(MANIFEST, None), content.pop(SIGNATURE, None)
    if manifest is None:
        raise BundleError(f"{directory}: no {MANIFEST}: this is no bundle")
    keys = load_trusted_keys(trusted) if isinstance(trusted, Path) else tuple(trusted)
    signed_by, warning = _check_signature(directory, manifest, signature, keys)
    if signed_by is None and not allow_unsigned:
        copy = "if you trust whose key it is, copy its .pub file to config/trusted_keys"
        step = "or sign it with dsac-robot bundle sign" if signature is None else f"or, {copy}"
        raise BundleError(f"{directory}: {warning}; set allow_unsigned to run it all the same, {step}")
    _check_files(directory, parse_manifest(manifest), content)
    return VerifiedBundle(content, hashlib.sha256(manifest).hexdigest(), signed_by, warning)


def manifest_of(files: Mapping[str, bytes]) -> bytes:
    """The text of MANIFEST for files by name. Raises BundleError for a name that a bundle cannot have."""
    for name in files:
        _check_name(name)
    lines = [f"{hashlib.sha256(files[name]).hexdigest()} {len(files[name])} {name}\n" for name in sorted(files)]
    return "".join(lines).encode("ascii")


def signature_of(manifest: bytes, private_key: Ed25519PrivateKey) -> bytes:
    """The text of MANIFEST.sig."""
    fingerprint = public_of(private_key).fingerprint
    return f"ed25519 {fingerprint} {private_key.sign(manifest).hex()}\n".encode("ascii")


def sign_bundle(directory: Path, private_key: Ed25519PrivateKey) -> TrustedKey:
    """Sign the bundle as it lies in ``directory``, replacing a signature that is there; returns the public key.

    Raises BundleError, as ``verify_bundle`` does, if the files do not fit the MANIFEST: what was altered since it was
    written is not blessed.
    """
    content = _read_directory(directory)
    manifest = content.pop(MANIFEST, None)
    content.pop(SIGNATURE, None)
    if manifest is None:
        raise BundleError(f"{directory}: no {MANIFEST}: this is no bundle")
    _check_files(directory, parse_manifest(manifest), content)
    temporary = directory / f".{SIGNATURE}.{os.getpid()}"
    try:
        temporary.write_bytes(signature_of(manifest, private_key))
        temporary.replace(directory / SIGNATURE)
    except OSError as error:
        raise BundleError(f"{directory / SIGNATURE}: cannot be written: {error.strerror}") from error
    return public_of(private_key)


def parse_manifest(manifest: bytes) -> Mapping[str, tuple[str, int]]:
    """(SHA-256, size) by file name. Raises BundleError naming the line that is not as it must be."""
    try:
        text = manifest.decode("ascii")
    except UnicodeDecodeError as error:
        raise BundleError(f"{MANIFEST}: not ASCII: {error.reason} at byte {error.start}") from error
    if not text.endswith("\n"):
        raise BundleError(f"{MANIFEST}: empty or cut off in its last line")
    entries: dict[str, tuple[str, int]] = {}
    for number, line in enumerate(text[:-1].split("\n"), 1):
        match = _LINE.fullmatch(line)
        if match is None:
            raise BundleError(f"{MANIFEST} line {number}: expected '<sha256> <size> <name>', got {line[:120]!r}")
        digest, size, name = match[1], int(match[2]), match[3]
        _check_name(name)
        if entries and name <= max(entries):
            raise BundleError(f"{MANIFEST} line {number}: {name} is listed twice or out of order")
        entries[name] = (digest, size)
    return entries


def _check_name(name: str) -> None:
    if "/" in name or "\\" in name or name.startswith("."):
        raise BundleError(f"{MANIFEST}: {name!r} would leave the bundle's directory (path traversal); only plain names")
    if not _NAME.fullmatch(name) or name in (MANIFEST, SIGNATURE):
        raise BundleError(f"{MANIFEST}: {name!r} is no name of a bundle's file: letters, digits, '.', '_', '-'")


def _check_signature(
    directory: Path, manifest: bytes, signature: bytes | None, keys: Sequence[TrustedKey]
) -> tuple[TrustedKey | None, str]:
    """The key that signed, or None and why nobody known did. Raises where the signature is damaged."""
    if signature is None:
        return None, f"unsigned: there is no {SIGNATURE}"
    match = _SIGNATURE.fullmatch(signature)
    if match is None:
        raise BundleError(f"{directory / SIGNATURE}: malformed; expected one line 'ed25519 <fingerprint> <signature>'")
    fingerprint, value = match[1].decode(), bytes.fromhex(match[2].decode())
    for key in keys:
        if key.fingerprint == fingerprint:
            if key.verifies(value, manifest):
                return key, ""
            raise BundleError(
                f"{directory / MANIFEST}: altered: the signature of key {fingerprint} ({key.comment}) does not fit it"
            )
    known = ", ".join(key.fingerprint for key in keys) or "none"
    return None, f"signed by the unknown key {fingerprint}; trusted keys: {known}"


def _check_files(directory: Path, entries: Mapping[str, tuple[str, int]], content: Mapping[str, bytes]) -> None:
    for name in content:
        if name not in entries:
            raise BundleError(f"{directory / name}: extra file: {MANIFEST} does not list it")
    for name, (digest, size) in entries.items():
        path = directory / name
        if name not in content:
            raise BundleError(f"{path}: missing: {MANIFEST} lists it")
        if len(content[name]) < size:
            raise BundleError(f"{path}: truncated: {len(content[name])} of {size} bytes")
        if hashlib.sha256(content[name]).hexdigest() != digest:
            raise BundleError(f"{path}: altered: its SHA-256 is not the one in {MANIFEST}")


def _read_directory(directory: Path) -> dict[str, bytes]:
    """Every file of the bundle by name, read once. Raises BundleError for all that is not a plain file of fair size."""
    content: dict[str, bytes] = {}
    left = SIZE_BYTES_MAX
    try:
        folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise BundleError(f"{directory}: no bundle can be read there: {error.strerror}") from error
    try:
        names = sorted(os.listdir(folder))
        if len(names) > FILES_MAX:
            raise BundleError(f"{directory}: {len(names)} files; a bundle has at most {FILES_MAX}")
        for name in names:
            content[name] = _read_file(folder, name, directory / name, left)
            left -= len(content[name])
    finally:
        os.close(folder)
    return content


def _read_file(folder: int, name: str, path: Path, limit: int) -> bytes:
    """The bytes of a regular file in an open directory; at most ``limit`` of them."""
    try:
        mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
        if stat.S_ISLNK(mode):
            raise BundleError(f"{path}: a symbolic link; a bundle's files must lie in its own directory")
        if not stat.S_ISREG(mode):
            raise BundleError(f"{path}: not a regular file; a bundle is flat and has files only")
        # A link or pipe put there since: O_NOFOLLOW fails on the one, O_NONBLOCK does not hang on the other.
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        with os.fdopen(descriptor, "rb") as stream:
            size = os.fstat(descriptor).st_size
            data = (stream.read(limit + 1) or b"") if size <= limit else b""  # a pipe may give None
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {error.strerror}") from error
    if size > limit or len(data) > limit:
        raise BundleError(f"{path}: too large: a bundle has at most {SIZE_BYTES_MAX} bytes in all")
    return data
