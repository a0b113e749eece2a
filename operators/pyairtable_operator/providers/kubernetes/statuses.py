"""Writes what became of TrafficPolicy objects into their status, and nothing else of them."""

import datetime
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from kubernetes.aio import client

from pyairtable_operator.inventory import Reception
from pyairtable_operator.providers.kubernetes import policies
from pyairtable_operator.providers.kubernetes.client import translated

_TIMEOUT_SECONDS = 4.0
_MAX_MESSAGE_CHARS = 1_000

Status = dict[str, Any]


class PolicyStatuses:
    """The statuses as they are, or as they were written last: what says the same is not written again."""

    def __init__(self, api: client.ApiClient) -> None:
        self._objects = client.CustomObjectsApi(api)
        self._written: dict[tuple[str, str], tuple[policies.TrafficPolicy, Status]] = {}

    async def tell(self, verdicts: Iterable[policies.Verdict], receptions: Mapping[str, Reception]) -> None:
        """Write what has changed. Raises ApiError."""
        before, self._written = self._written, {}
        for verdict in verdicts:
            source = verdict.source
            key = (source.target[0], source.name)
            known = before.get(key)
            # What was written comes back with another version of the object.
            current = known[1] if known is not None and known[0] is source else source.status
            wanted = _status(verdict, current, receptions)
            if wanted != current:
                await self._write(*key, wanted)
            self._written[key] = (source, wanted)

    async def _write(self, namespace: str, name: str, status: Status) -> None:
        with translated():
            try:
                await self._objects.patch_namespaced_custom_object_status(
                    policies.GROUP,
                    policies.VERSION,
                    namespace,
                    policies.PLURAL,
                    name,
                    {"status": status},
                    _content_type="application/merge-patch+json",
                    _request_timeout=_TIMEOUT_SECONDS,
                )
            except client.ApiException as error:
                # It has just been deleted, or its namespace is going away.
                if error.status not in {HTTPStatus.NOT_FOUND, HTTPStatus.FORBIDDEN}:
                    raise


def _status(verdict: policies.Verdict, current: Mapping[str, Any], receptions: Mapping[str, Reception]) -> Status:
    condition = {
        "type": "Accepted",
        "status": "True" if verdict.accepted else "False",
        "reason": verdict.reason,
        "message": verdict.message[:_MAX_MESSAGE_CHARS],
        "observedGeneration": verdict.source.generation,
    }
    others = [found for found in current.get("conditions") or () if found.get("type") != "Accepted"]
    before: Mapping[str, Any] = next(
        (found for found in current.get("conditions") or () if found.get("type") == "Accepted"), {}
    )
    same = before.get("status") == condition["status"] and "lastTransitionTime" in before
    condition["lastTransitionTime"] = before["lastTransitionTime"] if same else _now()
    counted = [receptions[name] for name in verdict.services if name in receptions]
    clients = {
        "subscribed": sum(found.subscribed for found in counted),
        "acknowledged": sum(found.acknowledged for found in counted),
        "refused": sum(found.refused for found in counted),
    }
    return {"conditions": [*others, condition], "clients": clients}


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
