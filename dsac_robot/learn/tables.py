"""The parameter tables of docs/training.md: ``python -m dsac_robot.learn.tables`` prints them."""

from __future__ import annotations

from dsac_robot.core.params import markdown_table
from dsac_robot.learn.dsac_t import DsacTConfig
from dsac_robot.learn.health import HealthConfig
from dsac_robot.learn.trainer import TrainerConfig

SECTIONS = (("learner", DsacTConfig), ("trainer", TrainerConfig), ("trainer: health", HealthConfig))


def tables() -> str:
    """All sections of a recipe that belong to learning, as markdown."""
    return "\n\n".join(f"### `{name}`\n\n{markdown_table(cls)}" for name, cls in SECTIONS) + "\n"


if __name__ == "__main__":
    print(tables(), end="")
