"""What the episodes of ``dsac-robot attack`` come to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dsac_robot.apps.figures import Figure

if TYPE_CHECKING:
    from sim.attack import Episode

EPISODES, WITHOUT_GUARD, WAY_M, HELD = 20_000, 0.80, 1.0, 0.90  # targets
CONFIDENCE = 0.95


def upper_bound(events: int, trials: int, confidence: float = CONFIDENCE) -> float:
    """The one-sided upper confidence bound of a probability (Clopper and Pearson 1934), by bisection.

    It is the p at which ``events`` or fewer of ``trials`` have the probability 1 - confidence; 1 without trials.
    """
    if trials <= 0 or events >= trials:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(60):
        p = 0.5 * (low + high)
        if _at_most(events, trials, p) > 1.0 - confidence:
            low = p
        else:
            high = p
    return high


def _at_most(events: int, trials: int, p: float) -> float:
    """Probability of at most ``events`` in ``trials``, each of probability ``p`` in (0, 1)."""
    total = 0.0
    for k in range(events + 1):
        choose = math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1)
        total += math.exp(choose + k * math.log(p) + (trials - k) * math.log1p(-p))
    return total


def table_of(episodes: Sequence[Episode]) -> list[dict[str, Any]]:
    """A row for each kind of attack."""
    return [_row(name, [e for e in episodes if e.attack == name]) for name in dict.fromkeys(e.attack for e in episodes)]


def _row(name: str, episodes: Sequence[Episode]) -> dict[str, Any]:
    on, off = [e for e in episodes if e.guard], [e for e in episodes if not e.guard]
    steps = sum(e.steps for e in on)
    return {
        "attack": name,
        "episodes": len(on),
        "violations": sum(e.violation for e in on),
        "excluded_contacts": sum(e.caused and not e.violation for e in on),
        "contacts_at_rest": sum(e.touched and not e.caused for e in on),
        "contacts_without_guard": float(np.mean([e.touched for e in off])),
        "way_m_median": float(np.median([e.way_m for e in on])),
        "steps": steps,
        "excluded_steps": sum(e.broken_steps for e in on),
        "excluded_by": {key: sum(e.broken[key] for e in on) for key in on[0].broken},
        "assumptions_held": 1.0 - sum(e.broken_steps for e in on) / steps,
    }


def figures_of(episodes: Sequence[Episode]) -> list[Figure]:
    """The figures of issue 5's attacks: sums over all kinds, and the worst kind where the target is one of each."""
    rows, on = table_of(episodes), [e for e in episodes if e.guard]
    violations = sum(e.violation for e in on)
    held = 1.0 - sum(e.broken_steps for e in on) / sum(e.steps for e in on)
    figures = [
        Figure("caused_contacts_assumptions_held", violations, "", 0, at_least=False),
        Figure("caused_contacts_assumption_broken", sum(e.caused and not e.violation for e in on)),
        Figure("contacts_at_rest", sum(e.touched and not e.caused for e in on)),
        Figure("episodes", len(on), "", EPISODES),
        Figure("contact_probability_upper_95", upper_bound(violations, len(on))),
        Figure("contact_rate_without_guard_min", min(r["contacts_without_guard"] for r in rows), "", WITHOUT_GUARD),
        Figure("way_m_median", float(np.median([e.way_m for e in on])), "m", WAY_M),
        Figure("way_m_median_min", min(r["way_m_median"] for r in rows), "m", WAY_M),
        Figure("assumptions_held_share", held, "", HELD),
        Figure("assumptions_held_share_min", min(r["assumptions_held"] for r in rows), "", HELD),
        Figure("excluded_steps", sum(e.broken_steps for e in on)),
        Figure("steps", sum(e.steps for e in on)),
    ]
    each = [
        Figure(f"contact_rate_without_guard_{r['attack']}", r["contacts_without_guard"], "", WITHOUT_GUARD)
        for r in rows
    ]
    return figures + each
