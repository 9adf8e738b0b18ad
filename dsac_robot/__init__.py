"""Train, ship, guard and improve driving policies for wheeled robots."""

__version__ = "0.1.0"
