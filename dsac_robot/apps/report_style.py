"""Colours and type of a report's pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dsac_robot.core.reasons import Level, Reason
from dsac_robot.data.decode import GuardState

INK, MUTED, GRID, PAPER = "#1f2933", "#7b8794", "#e4e7eb", "#ffffff"
STONE, SWEEP, GOAL, EVENT = "#9aa5b1", "#cfe8ff", "#1b9e5a", "#b3127f"
# Who is in command: label and colour, from best to worst. The same everywhere.
COMMAND = {
    "policy": ("policy", "#2364aa"),
    "eased": ("policy, ramped", "#73b3e8"),
    "teleop": ("operator", "#5f7a61"),
    "limited": ("guard: changed for clearance", "#f5a700"),
    "caution": ("guard: slowed for the monitor", "#e8702a"),
    "fallback": ("fallback", "#8f5bd6"),
    "stop": ("controlled stop", "#d7263d"),
    "emergency": ("latched stop", "#6b0f1a"),
}
DPI = 180
WIDTH_IN = 11.0


def command_of(state: GuardState) -> str:
    """The key of COMMAND for what the guard said."""
    if state.level == Level.LIMITED:
        if state.reason == Reason.RATE_LIMIT:
            return "eased"
        return "caution" if state.reason == Reason.OOD_CAUTION else "limited"
    if state.level == Level.DRIVE:
        return "teleop" if state.reason == Reason.TELEOP else "policy"
    return {Level.FALLBACK: "fallback", Level.STOP: "stop", Level.EMERGENCY: "emergency"}[state.level]


def pyplot() -> Any:
    """matplotlib's pyplot, drawing without a screen, in the report's type."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    pyplot.rcParams.update(
        {
            "font.family": ["DejaVu Sans"],
            "font.size": 9,
            "text.color": INK,
            "axes.labelcolor": INK,
            "axes.edgecolor": MUTED,
            "axes.linewidth": 0.6,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "xtick.color": MUTED,
            "ytick.color": MUTED,
            "xtick.labelcolor": INK,
            "ytick.labelcolor": INK,
            "grid.color": GRID,
            "legend.frameon": False,
            "figure.facecolor": PAPER,
        }
    )
    return pyplot


def save(figure: Any, path: Path, dpi: int = DPI) -> Path:
    """Write the figure as a PNG and forget it; the path."""
    figure.savefig(path, dpi=dpi, metadata={"Software": None})
    pyplot().close(figure)
    return path
