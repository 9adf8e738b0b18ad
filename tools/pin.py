"""Prints constraints.txt from the distributions that pip installed beside this interpreter: `make pin`."""

import sys
from importlib.metadata import distributions

HEADER = """\
# The versions that the tests ran with, on Python {major}.{minor}. Made by `make pin`; setup.py holds lower bounds.
# torch carries no local version: pip prefers a +cpu wheel of the same release where its indexes offer one.
"""
OWN_NAME = "dsac_robot"


def pins() -> list[str]:
    """Return `name==version` of each distribution that pip installed, sorted by name, without this project's own.

    The ROS wheels carry metadata of the ament packages inside them (rclpy beside ros-rclpy). Those are not on the
    registry under that name and pip did not install them, so they are left out.
    """
    found = {}
    for distribution in distributions():
        installer = (distribution.read_text("INSTALLER") or "").strip()
        name = distribution.metadata["Name"]
        if installer == "pip" and name.replace("-", "_") != OWN_NAME:
            found[name.lower()] = f"{name}=={distribution.version.split('+')[0]}"
    return [found[key] for key in sorted(found)]


if __name__ == "__main__":
    print(HEADER.format(major=sys.version_info.major, minor=sys.version_info.minor) + "\n".join(pins()))
