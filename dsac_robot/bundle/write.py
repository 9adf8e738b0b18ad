"""Writing a bundle: whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from dsac_robot.bundle.card import CARD_FILE, Card
from dsac_robot.bundle.errors import BundleError
from dsac_robot.bundle.manifest import MANIFEST, SIGNATURE, manifest_of, signature_of
from dsac_robot.bundle.onnx_check import check_model

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

POLICY_FILE = "policy.onnx"
MONITOR_FILE = "monitor.onnx"


def write_bundle(
    directory: Path,
    card: Card,
    policy_onnx: bytes,
    monitor_onnx: bytes | None,
    private_key: Ed25519PrivateKey | None,
) -> Path:
    """Write a bundle to ``directory`` and return it; without a key it is unsigned.

    It is written beside its place and renamed, so that nobody ever sees half a bundle. An older bundle in that place is
    replaced. Raises BundleError if the place holds anything else, if card and monitor do not agree, or if a model has
    what the runtime refuses.
    """
    if (card.monitor is None) != (monitor_onnx is None):
        raise BundleError(f"card.monitor and {MONITOR_FILE} belong together: give both or neither")
    files = {CARD_FILE: card.to_json(), POLICY_FILE: policy_onnx}
    if monitor_onnx is not None:
        files[MONITOR_FILE] = monitor_onnx
    for name in files.keys() - {CARD_FILE}:
        check_model(files[name], name)
    Card.from_json(files[CARD_FILE])  # what is written can be read again
    manifest = manifest_of(files)
    files[MANIFEST] = manifest
    if private_key is not None:
        files[SIGNATURE] = signature_of(manifest, private_key)
    directory = Path(directory)
    if directory.exists() and not (directory / MANIFEST).is_file() and any(directory.iterdir()):
        raise BundleError(f"{directory}: exists and is no bundle; give an empty or new directory")
    directory.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
    try:
        new = temporary / "new"
        new.mkdir()
        for name, content in files.items():
            with open(new / name, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
        if directory.exists():
            directory.rename(temporary / "old")
        new.rename(directory)
    finally:
        shutil.rmtree(temporary)
    return directory
