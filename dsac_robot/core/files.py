"""Where the data files are, and strict YAML. The only module of core that imports yaml."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from dsac_robot.core.params import ParameterError
from dsac_robot.share import share_dir


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


def parse_value(text: str) -> Any:
    """One value of a command line, read as YAML reads it (``1e-4``, ``true``, ``[1, 2]``)."""
    value = yaml.safe_load(text)
    if isinstance(value, str):
        try:
            return float(value)  # YAML 1.1 takes 1e-4 for text
        except ValueError:
            return value
    return value


def share_path(*parts: str) -> Path:
    """A data file of the package, such as ``share_path("config", "robots", "jackal.yaml")``, wherever it was installed.

    Raises FileNotFoundError naming the path if it is not there.
    """
    path = share_dir().joinpath(*parts)
    if not path.exists():
        raise FileNotFoundError(f"no {path}; is the package installed with its data files?")
    return path
