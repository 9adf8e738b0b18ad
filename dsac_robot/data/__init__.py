"""Rosbags in and out, episodes, data sets."""
