"""Ed25519 keys: private ones in PEM files that only their owner can read, trusted ones as one line in a .pub file."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dsac_robot.bundle.errors import BundleError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

PUBLIC_LINE = re.compile(r"([A-Za-z0-9+/]{43}=)(?:[ \t]+([^\r\n]*))?\n?")


@dataclass(frozen=True)
class TrustedKey:
    """A public key whose signatures are believed: 32 raw bytes, and a comment that says whose it is."""

    raw: bytes
    comment: str = ""

    @property
    def fingerprint(self) -> str:
        """The first 16 hexadecimal digits of the SHA-256 of the raw key."""
        return hashlib.sha256(self.raw).hexdigest()[:16]

    def verifies(self, signature: bytes, content: bytes) -> bool:
        """True if ``signature`` over ``content`` was made with the private half of this key."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, content)
        except InvalidSignature:
            return False
        return True

    def to_line(self) -> str:
        """The text of a .pub file."""
        return f"{base64.b64encode(self.raw).decode()} {self.comment}".rstrip() + "\n"


def generate_key() -> Ed25519PrivateKey:
    """A new private key."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.generate()


def public_of(private_key: Ed25519PrivateKey, comment: str = "") -> TrustedKey:
    """The public half, ready to be trusted."""
    return TrustedKey(private_key.public_key().public_bytes_raw(), comment)


def write_key(private_key: Ed25519PrivateKey, path: Path, comment: str = "") -> TrustedKey:
    """Write the private key to ``path`` (PEM, mode 0600) and the public half beside it with suffix .pub.

    ``path`` must end in .key, which the repository's .gitignore keeps out. Raises BundleError if it does not, if
    either file exists (a key is never overwritten) or if it cannot be written.
    """
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    if path.suffix != ".key":
        raise BundleError(f"{path}: the name of a private key must end in .key, so that git ignores it")
    public_path = path.with_suffix(".pub")
    public = public_of(private_key, comment)
    pem = private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for target, content, mode in ((path, pem, 0o600), (public_path, public.to_line().encode(), 0o644)):
        try:
            descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        except FileExistsError:
            raise BundleError(f"{target} exists already; a key is never overwritten, give another name") from None
        except OSError as error:
            raise BundleError(f"{target}: cannot be written: {error.strerror}") from error
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
    return public


def load_private_key(path: Path) -> Ed25519PrivateKey:
    """The private key in a PEM file. Raises BundleError naming the file if it is absent or no Ed25519 key."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise BundleError(f"{path}: the private key cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BundleError(f"{path}: no unencrypted private key in PEM form: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise BundleError(f"{path}: the key is not Ed25519; make one with `dsac-robot keys new --out FILE.key`")
    return key


def load_trusted_keys(directory: Path) -> tuple[TrustedKey, ...]:
    """The keys in ``directory/*.pub``, each file one line: 32 raw bytes as base64, then a comment.

    A directory that does not exist holds no keys. Raises BundleError naming a file that is not such a line.
    """
    keys = []
    for path in sorted(directory.glob("*.pub")):
        try:
            line = PUBLIC_LINE.fullmatch(path.read_text(encoding="utf-8"))
            if line is None:
                raise BundleError(f"{path}: expected one line: 44 characters of base64 (32 bytes), then a comment")
            raw = base64.b64decode(line[1], validate=True)
        except (OSError, UnicodeDecodeError, binascii.Error) as error:
            raise BundleError(f"{path}: cannot be read as a public key: {error}") from error
        keys.append(TrustedKey(raw, line[2] or path.stem))
    return tuple(keys)
