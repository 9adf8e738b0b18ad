"""Decisions and value types, pure: the standard library and numpy only."""
