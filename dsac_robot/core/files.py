"""Where the data files are, and strict YAML. The only module of core that imports yaml."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from dsac_robot.core.params import ParameterError


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice: the second would silently win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


def load_yaml(path: Path) -> Mapping[str, Any]:
    """The mapping in a YAML file. Raises ParameterError naming the file if it is absent, not YAML or no mapping."""
    try:
        with open(path, encoding="utf-8") as stream:
            loaded = yaml.load(stream, Loader=_StrictLoader)
    except OSError as error:
        raise ParameterError(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ParameterError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(loaded, dict):
        raise ParameterError(f"{path}: expected a mapping of keys at the top, got {type(loaded).__name__}")
    return loaded


def dump_yaml(values: Mapping[str, Any]) -> str:
    """YAML text of plain values, keys in the given order."""
    return str(yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True))


def share_path(*parts: str) -> Path:
    """A data file of the package (``share_path("config", "robots", "jackal.yaml")``), wherever it was installed.

    Looks in the source tree, then in ``share/dsac_robot`` of this Python's prefix and of each ``AMENT_PREFIX_PATH``.
    Raises FileNotFoundError naming every place that was tried.
    """
    roots = [Path(__file__).resolve().parents[2], Path(sys.prefix) / "share" / "dsac_robot"]
    prefixes = os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
    roots += [Path(prefix) / "share" / "dsac_robot" for prefix in prefixes if prefix]
    for parent in Path(__file__).resolve().parents:
        roots.append(parent / "share" / "dsac_robot")
    candidates = [root.joinpath(*parts) for root in roots]
    for candidate in candidates:
        if candidate.exists():
            return candidate
    raise FileNotFoundError(f"no {Path(*parts)} in any of: {', '.join(str(c.parent) for c in candidates)}")
