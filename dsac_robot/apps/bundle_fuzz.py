"""A fuzz of the bundle loader: nothing that was altered is accepted, nothing crashes it, nothing holds it up.

Two kinds of cases. *Altered*: a file of a signed bundle is changed, cut, doubled, exchanged or removed; each must be
refused. *Signed again*: card, MANIFEST or a model is mutated and the whole is signed with the trusted key, so that what
lies behind the signature is reached: it is refused, or it is a bundle that loads and runs. Either way the only
exception is BundleError.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SIGNED_AGAIN = ("card.json", "MANIFEST", "policy.onnx", "monitor.onnx")
DEEP_SHARE = 0.25  # of the cases are signed again
SEQUENCES = (b"\x00", b"\xff" * 9, b'"', b"{}", b"1e999", b"NaN", b"-1", b"../", b"\n", b"[" * 50)


@dataclass
class FuzzResult:
    """What came of it. Times are of this process's CPU: the machine's other work is no fault of the loader."""

    cases: int = 0
    refused: int = 0
    altered_accepted: int = 0
    signed_again_accepted: int = 0  # valid bundles that differ: allowed
    crashes: int = 0
    slowest_s: float = 0.0
    first_problem: str = ""


def mutate(content: bytes, rng: np.random.Generator) -> bytes:
    """``content`` with one to three changes; it may, rarely, be the same."""
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 4))):
        size = len(data)
        at, other = (int(rng.integers(0, size + 1)) for _ in range(2))
        kind = int(rng.integers(0, 7))
        if kind == 0 and size:
            data[min(at, size - 1)] ^= 1 << int(rng.integers(0, 8))
        elif kind == 1 and size:
            data[min(at, size - 1)] = int(rng.integers(0, 256))
        elif kind == 2:
            del data[at:]
        elif kind == 3:
            del data[min(at, other) : max(at, other)]
        elif kind == 4:
            data[at:at] = SEQUENCES[int(rng.integers(0, len(SEQUENCES)))]
        elif kind == 5:
            data[at:at] = data[other : other + 64]
        else:
            data[at : at + 8] = rng.integers(0, 256, 8, np.uint8).tobytes()
    return bytes(data)


def mutate_card(content: bytes, rng: np.random.Generator) -> bytes:
    """The card with one value anywhere in it replaced by another kind of value, or a key gone, added or doubled."""
    card = json.loads(content)
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, value in items:
            places.append((node, key))
            walk(value)

    walk(card)
    node, key = places[int(rng.integers(0, len(places)))]
    choice = int(rng.integers(0, 3))
    if choice == 0:
        values: list[Any] = [None, True, -1, 0, 2**63, 1e308, "", "x", [], {}, [[]], {"a": 1}, 10**400, -0.0]
        node[key] = values[int(rng.integers(0, len(values)))]
    elif choice == 1:
        del node[key]
    elif isinstance(node, dict):
        node[f"{key}_2"] = node[key]
    else:
        node.append(node[key])
    text = json.dumps(card)
    if int(rng.integers(0, 10)) == 0:
        text = text.replace('"beams"', '"beams": 1, "beams"', 1)
    return text.encode()


def fuzz(
    bundle: Path,
    key: Ed25519PrivateKey,
    scratch: Path,
    cases: int,
    seed: int = 0,
    progress: Callable[[FuzzResult], None] | None = None,
) -> FuzzResult:
    """Run ``cases`` cases on the bundle at ``bundle``, which ``key`` has signed; ``scratch`` is a folder to work in."""
    from dsac_robot.bundle.keys import public_of

    original = {path.name: path.read_bytes() for path in sorted(bundle.iterdir())}
    trusted, result = (public_of(key, "fuzz"),), FuzzResult()
    folder = scratch / "case"
    for number in range(cases):
        rng = np.random.default_rng([seed, number])
        deep = bool(rng.random() < DEEP_SHARE)
        files = _signed_again(original, key, rng) if deep else _altered(original, rng)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
        _case(folder, trusted, files == original, deep, result, number)
        if progress is not None:
            progress(result)
    return result


def _case(folder: Path, trusted: Any, unchanged: bool, deep: bool, result: FuzzResult, number: int) -> None:
    """Load one case as the nodes do, and note what came of it."""
    from dsac_robot.bundle.deployed import check_contents, load_bundle
    from dsac_robot.bundle.errors import BundleError

    started = time.process_time()
    result.cases += 1
    try:
        check_contents(load_bundle(folder, trusted))
    except BundleError:
        result.refused += 1
    except Exception as error:  # noqa: BLE001 - whatever else comes out is what a fuzz looks for
        result.crashes += 1
        result.first_problem = result.first_problem or f"case {number}: {type(error).__name__}: {error}"
    else:
        result.signed_again_accepted += deep
        if not deep and not unchanged:
            result.altered_accepted += 1
            result.first_problem = result.first_problem or f"case {number}: accepted, though altered"
    result.slowest_s = max(result.slowest_s, time.process_time() - started)


def _altered(original: Mapping[str, bytes], rng: np.random.Generator) -> dict[str, bytes]:
    """One file changed, removed, added or exchanged for another, the signature as it was."""
    files = dict(original)
    names = sorted(files)
    name, other = (names[int(rng.integers(0, len(names)))] for _ in range(2))
    kind = int(rng.integers(0, 8))
    if kind == 0:
        del files[name]
    elif kind == 1:
        files["extra.bin"] = mutate(files[name], rng)
    elif kind == 2:
        files[name], files[other] = files[other], files[name]
    else:
        files[name] = mutate(files[name], rng)
    return files


def _signed_again(original: Mapping[str, bytes], key: Ed25519PrivateKey, rng: np.random.Generator) -> dict[str, bytes]:
    """One file mutated, and all of it signed with the trusted key."""
    from dsac_robot.bundle.manifest import MANIFEST, SIGNATURE, manifest_of, signature_of

    files = {name: content for name, content in original.items() if name not in (MANIFEST, SIGNATURE)}
    target = SIGNED_AGAIN[int(rng.integers(0, len(SIGNED_AGAIN)))]
    if target == "card.json":
        change = mutate_card if rng.random() < 0.7 else mutate
        files[target] = change(files[target], rng)
    elif target in files:
        files[target] = mutate(files[target], rng)
    manifest = manifest_of(files)
    if target == MANIFEST:
        manifest = mutate(manifest, rng)
    return files | {MANIFEST: manifest, SIGNATURE: signature_of(manifest, key)}
