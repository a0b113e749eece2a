"""YAML whose mappings know their lines, so that what is wrong with a file is told with its place."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from pyairtable_mesh.meshctl import payload
from pyairtable_mesh.meshctl.problems import USAGE, Problem


class Mapping(dict[str, Any]):
    """A mapping with the file and line of itself and of its keys."""

    path: Path
    line: int
    lines: dict[str, int]

    def place(self, key: str = "") -> str:
        """``file:line``, of the mapping or of a key."""
        return f"{self.path}:{self.lines.get(key, self.line)}"

    def wrong(self, words: str, key: str = "") -> Problem:
        """The error of something in here."""
        return Problem(f"{self.place(key)}: {words}", exit_code=USAGE)

    def require(self, known: Iterable[str]) -> None:
        """Raise `Problem` for keys that would be passed over: a word written wrong is no test that passed."""
        if unknown := sorted(self.keys() - set(known)):
            raise self.wrong(f"{unknown[0]} is not known here; known are {', '.join(known)}.", unknown[0])

    def text(self, key: str, default: str | None = None) -> str:
        """A text; `Problem` where it is missing and has no default."""
        value = self.get(key, default)
        if not isinstance(value, str):
            raise self.wrong(f"{key} must be a text." if key in self else f"{key} is missing.", key)
        return value

    def texts(self, key: str) -> list[str]:
        """A list of texts."""
        value = self.get(key) or []
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise self.wrong(f"{key} must be a list of texts.", key)
        return value

    def mapping(self, key: str) -> "Mapping":
        """A mapping; empty where it is missing."""
        value = self.get(key) or {}
        if isinstance(value, Mapping):
            return value
        if value:
            raise self.wrong(f"{key} must be a mapping.", key)
        return _mapping(self.path, self.lines.get(key, self.line))

    def mappings(self, key: str) -> Sequence["Mapping"]:
        """A list of mappings; empty where it is missing."""
        value = self.get(key) or []
        if not isinstance(value, list) or not all(isinstance(each, Mapping) for each in value):
            raise self.wrong(f"{key} must be a list of mappings.", key)
        return value


def read(path: Path) -> Any:
    """The content of a YAML or JSON file. Raises `Problem`."""
    text = payload.read(f"@{path}")
    try:
        loader = _Loader(text)
        loader.path = path
        return loader.get_single_data()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{path}:{mark.line + 1}" if mark else str(path)
        raise Problem(f"{place}: {error.problem or 'it is no YAML'}.", exit_code=USAGE) from None
    except (yaml.YAMLError, RecursionError, ValueError):
        raise Problem(f"{path} is no YAML that can be read.", exit_code=USAGE) from None


def wrong(path: Path, words: str) -> Problem:
    """The error of a file as a whole."""
    return Problem(f"{path}: {words}", exit_code=USAGE)


class _Loader(yaml.SafeLoader):
    path: Path

    def construct_located(self, node: yaml.MappingNode) -> Mapping:
        mapping = _mapping(self.path, node.start_mark.line + 1)
        mapping.lines = {str(key.value): key.start_mark.line + 1 for key, _ in node.value}
        if len(mapping.lines) < len(node.value):
            raise yaml.constructor.ConstructorError(problem="a key is there twice", problem_mark=node.start_mark)
        mapping.update({str(key): value for key, value in self.construct_mapping(node, deep=True).items()})
        return mapping


# Contexts travel as JSON, which has no times: what looks like one stays text.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_constructor("tag:yaml.org,2002:map", _Loader.construct_located)


def _mapping(path: Path, line: int) -> Mapping:
    made = Mapping()
    made.path, made.line, made.lines = path, line, {}
    return made
