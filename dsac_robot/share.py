"""Finds the files that ship beside the code: config/, launch/ and package.xml."""

from pathlib import Path

PACKAGE = "dsac_robot"


def share_dir() -> Path:
    """Return the folder that holds config/, launch/ and package.xml of this very copy of the code.

    It is found from the code's own place, so that a source tree, a venv and a colcon workspace each use their own
    files whatever else is installed or sourced. In a source tree (pip install -e, colcon build --symlink-install)
    that is the folder above the package; otherwise <prefix>/share/dsac_robot, where <prefix> is a folder above.

    Raises FileNotFoundError, naming the places tried, where the code was installed without its data files.
    """
    package = Path(__file__).resolve().parent
    tried = [package.parent, *(folder / "share" / PACKAGE for folder in package.parents)]
    for folder in tried:
        if (folder / "package.xml").is_file() and (folder / "config").is_dir():
            return folder
    places = ", ".join(str(folder) for folder in tried)
    raise FileNotFoundError(
        f"the files of {PACKAGE} (package.xml and config/) are in none of: {places}. "
        f"Install the package again with pip or colcon, which copy them to share/{PACKAGE}."
    )
