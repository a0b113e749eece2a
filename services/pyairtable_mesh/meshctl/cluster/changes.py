"""What an upgrade changes, in a line each: images, replicas, objects and values; never the value of a secret."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from pyairtable_mesh.meshctl.cluster.kubectl import Object

DEFAULT = "(default)"
_SECRET = re.compile(r"pass|secret|token|credential|key", re.IGNORECASE)
_OPEN = frozenset(
    {"repository", "tag", "pullPolicy", "environment", "logLevel", "size", "storageClass", "grpc", "cpu", "memory"}
)
"""Last words of the names of texts that are shown; a text of another name may be a secret."""


def objects(manifest: str) -> dict[str, Object]:
    """``kind/name`` -> an object of a manifest that Helm has rendered."""
    found = (each for each in yaml.safe_load_all(manifest) if each)
    return {f"{each['kind'].lower()}/{each['metadata']['name']}": each for each in found}


def summary(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What differs between two releases as Helm tells them in JSON: subject and words."""
    old, new = objects(before.get("manifest", "")), objects(after.get("manifest", ""))
    lines = [(name, "is added") for name in sorted(new.keys() - old.keys())]
    lines += [(name, "is removed") for name in sorted(old.keys() - new.keys())]
    for name in sorted(old.keys() & new.keys()):
        lines += [(name, words) for words in _of_object(old[name], new[name])]
    values_before, values_after = flat(before.get("config") or {}), flat(after.get("config") or {})
    for key in sorted(values_before.keys() | values_after.keys()):
        was, will = values_before.get(key, DEFAULT), values_after.get(key, DEFAULT)
        if was != will:
            shown = _shown(key, was) and _shown(key, will)
            lines.append((f"value {key}", f"{_plain(was)} -> {_plain(will)}" if shown else "changes"))
    return lines


def _of_object(old: Object, new: Object) -> Iterator[str]:
    images = list(zip(_images(old), _images(new), strict=False))
    yield from (f"image {was} -> {will}" for was, will in images if was != will)
    replicas = tuple(each.get("spec", {}).get("replicas") for each in (old, new)) if "spec" in old else (None, None)
    if replicas[0] != replicas[1]:
        yield f"replicas {replicas[0] or 'as scaled'} -> {replicas[1] or 'as scaled'}"
    if _template(old) != _template(new):
        if all(was == will for was, will in images):
            yield "pods are replaced"
    elif replicas[0] == replicas[1] and any(old.get(part) != new.get(part) for part in ("spec", "data", "rules")):
        yield "changes"


def _template(found: Object) -> Any:
    return found.get("spec", {}).get("template") if isinstance(found.get("spec"), dict) else None


def _images(found: Object) -> list[str]:
    spec = (_template(found) or {}).get("spec", {})
    return [each["image"] for each in (*spec.get("initContainers", ()), *spec.get("containers", ()))]


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``a.b`` -> a value, for nested values; lists are values."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _shown(key: str, value: Any) -> bool:
    if _SECRET.search(key):
        return False
    return value == DEFAULT or isinstance(value, bool | int | float) or key.rpartition(".")[2] in _OPEN
