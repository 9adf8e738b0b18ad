"""The fuzz of the loader, 500 cases of it; ``dsac-robot bench runtime`` runs 20,000."""

from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dsac_robot.apps.bundle_fuzz import fuzz, mutate, mutate_card
from dsac_robot.bundle.card import Card


def test_nothing_altered_is_accepted_nothing_crashes_and_nothing_takes_two_seconds(
    bundle_dir: Path, key: Ed25519PrivateKey, tmp_path: Path
) -> None:
    result = fuzz(bundle_dir, key, tmp_path / "fuzz", cases=500, seed=1)
    assert result.cases == 500
    assert (result.altered_accepted, result.crashes) == (0, 0), result.first_problem
    assert result.slowest_s < 2.0
    # the cases reach behind the signature: most are refused there too, some are still bundles
    assert result.signed_again_accepted > 5
    assert result.refused + result.signed_again_accepted >= 490  # the rest were mutated into themselves


def test_mutations_change_what_they_are_given(card: Card) -> None:
    content = card.to_json()
    rngs = [np.random.default_rng(seed) for seed in range(100)]
    assert sum(mutate(content, rng) != content for rng in rngs) > 90
    assert sum(mutate_card(content, rng) != content for rng in rngs) > 90
    assert isinstance(mutate(b"", rngs[0]), bytes)
