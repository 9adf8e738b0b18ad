"""Finds the files that ship beside the code: config/, launch/ and package.xml."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGE = "dsac_robot"


def _candidates(package_folder: Path) -> Iterator[Path]:
    """Yield where the share folder may be, best first, for code that lies in package_folder."""
    yield package_folder.parent  # the source tree: editable installs and colcon's --symlink-install
    for parent in package_folder.parents:  # <prefix>/lib/python3.x/site-packages, and pip's --target
        yield parent / "share" / PACKAGE
    for prefix in [*os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep), sys.prefix]:
        if prefix:
            yield Path(prefix) / "share" / PACKAGE


def share_dir() -> Path:
    """Return the folder that holds config/, launch/ and package.xml of this very copy of the code.

    It is found from the code's own place first, so that a source tree, a wheel, a venv and a colcon workspace each
    use their own files whatever else is installed; no environment variable is needed.

    Raises FileNotFoundError, naming the places tried, where the code was installed without its data files.
    """
    tried = list(dict.fromkeys(_candidates(Path(__file__).resolve().parent)))
    for folder in tried:
        if (folder / "package.xml").is_file() and (folder / "config").is_dir():
            return folder
    places = ", ".join(str(folder) for folder in tried)
    raise FileNotFoundError(
        f"the files of {PACKAGE} (package.xml and config/) are in none of: {places}. "
        f"Install the package again with pip or colcon, which copy them to share/{PACKAGE}."
    )
