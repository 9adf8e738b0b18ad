"""The loss curve of an offline run: ``loss.csv`` and ``loss.png``."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dsac_robot.learn.cloning import Look


def write_curve(folder: Path, curve: Sequence[Look], title: str) -> None:
    """Write both files into ``folder``, which is there."""
    with open(folder / "loss.csv", "w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(["update", "train_loss", "validation_loss", "best"])
        table.writerows((look.update, look.train_loss, look.validation_loss, int(look.best)) for look in curve)
    draw(folder / "loss.png", curve, title)


def draw(path: Path, curve: Sequence[Look], title: str) -> None:
    """Training and held-out loss over updates, and the update whose weights were kept."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    updates = [look.update for look in curve]
    axes.plot(updates, [look.train_loss for look in curve], color="tab:blue", label="training")
    axes.plot(updates, [look.validation_loss for look in curve], color="tab:orange", label="held-out episodes")
    best = [look for look in curve if look.best][-1]
    axes.axvline(best.update, color="0.5", linestyle=":", label=f"kept: update {best.update}")
    axes.set(title=title, xlabel="update", ylabel="Huber loss of the normalised action", yscale="log")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
