"""The form of `mesh.yaml`, a file that the file provider reads.

    domain: cluster.local            # may be left out
    services:
      - name: user
        namespace: pyairtable
        port: 50051                  # in user.pyairtable.svc.cluster.local:50051
        endpoints:
          - {address: 127.0.0.1, port: 50061}
          - {address: 127.0.0.1, port: 50062, zone: b, weight: 2, health: DRAINING}
        policy:                      # may be left out, as may each part of it
          load_balancing: ROUND_ROBIN
          max_concurrent_requests: 65536
          retry: {codes: [UNAVAILABLE], attempts: 4, initial_backoff: 0.025, max_backoff: 0.25}
          outlier_detection: {failure_percentage: 85, request_volume: 20}

Back-offs and intervals are seconds. Defaults and meanings are those of `pyairtable_operator.model`, whose classes
these fields fill by name. A service that is wrong is left out with a problem that names its path; the file is
refused as a whole only when its services can't be told apart.
"""

from collections.abc import Iterable
from typing import Any

import pydantic
import yaml

from pyairtable_operator import model

# PyYAML's own loader takes ten times as long, and a change waits for it.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class DocumentError(Exception):
    """The document as a whole can't be read; `problem` says where and why."""

    def __init__(self, problem: model.Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


class _Document(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    domain: str = model.DEFAULT_DOMAIN
    services: list[dict[str, Any]]


class _Entry(pydantic.BaseModel):
    # A model around it forbids unknown fields in the dataclasses too, which have no configuration of their own.
    model_config = pydantic.ConfigDict(extra="forbid")

    service: model.Service


def parse(text: str | bytes) -> model.Mesh:
    """Return the mesh that a document describes. Raises DocumentError."""
    document = _document(text)
    services: list[model.Service] = []
    problems: list[model.Problem] = []
    for index, fields in enumerate(document.services):
        try:
            entry = _Entry.model_validate({"service": {"domain": document.domain, **fields}})
            services.append(entry.service)
        except pydantic.ValidationError as error:
            name = _canonical_name({"domain": document.domain, **fields})
            problems += _problems(("services", index), error, skip=1, service=name)
    return model.Mesh(tuple(services), tuple(problems))


def render(services: Iterable[model.Service]) -> str:
    """Return the document that `parse` reads back as these services."""
    fields = pydantic.TypeAdapter(list[model.Service]).dump_python(list(services), mode="json", exclude_defaults=True)
    return yaml.safe_dump({"services": fields}, sort_keys=False)


def _document(text: str | bytes) -> _Document:
    try:
        return _Document.model_validate(yaml.load(text, Loader=_LOADER))  # noqa: S506 - both loaders are safe ones
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{mark.line + 1}:{mark.column + 1}" if mark is not None else "document"
        raise DocumentError(model.Problem(where, error.problem or "is not YAML")) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DocumentError(model.Problem("document", "is not YAML in UTF-8")) from error
    except pydantic.ValidationError as error:
        raise DocumentError(_problems((), error)[0]) from error


def _problems(
    prefix: tuple[int | str, ...], error: pydantic.ValidationError, *, skip: int = 0, service: str = ""
) -> list[model.Problem]:
    return [
        model.Problem(_path((*prefix, *found["loc"][skip:])), _lower_first(found["msg"]), service)
        for found in error.errors(include_url=False, include_input=False)
    ]


def _canonical_name(fields: dict[str, Any]) -> str:
    parts = {key: fields.get(key) for key in ("name", "namespace", "domain", "port")}
    if not all(isinstance(part, str | int) for part in parts.values()):
        return ""
    return "{name}.{namespace}.svc.{domain}:{port}".format_map(parts)


def _path(parts: tuple[int | str, ...]) -> str:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
    return path.removeprefix(".") or "document"


def _lower_first(words: str) -> str:
    return words[:1].lower() + words[1:]
