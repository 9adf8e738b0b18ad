"""Thin rclpy adapters around the core."""
