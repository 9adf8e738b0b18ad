"""The dsac-robot command: arguments, wiring, progress, reports."""
