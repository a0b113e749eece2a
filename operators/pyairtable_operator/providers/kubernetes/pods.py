"""Follows pods: which account runs at which address.

This is not kopf's work like the rest: its gate for the first listing costs the square of the number of objects, and a
cluster has many more pods than Services. A pod is kept as its name, account and addresses; nothing else of it is read.
"""

import asyncio
import contextlib
import dataclasses
import json
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any

from kubernetes.aio import client

from pyairtable_operator import model
from pyairtable_operator.providers.kubernetes.client import ApiError, translated

_ALIVE = "status.phase!=Succeeded,status.phase!=Failed"
_PAGE = 500
_LIST_SECONDS = 30.0
# The API server ends a watch after the one, we after the other.
_WATCH_SECONDS, _LONGEST_SECONDS = 300, 330.0
_PAUSE_SECONDS = 0.1

Object = Mapping[str, Any]
Key = tuple[str, str]
"""Namespace and name of a pod."""


@dataclasses.dataclass(frozen=True, slots=True)
class Pod:
    """What identifies a pod. On the network of its host it shares its addresses with others."""

    key: Key
    account: str
    addresses: tuple[str, ...]
    on_host: bool = False


def pod(source: Object) -> Pod:
    """Return what a Pod says."""
    metadata, spec, status = source["metadata"], source["spec"], source.get("status") or {}
    return Pod(
        (metadata["namespace"], metadata["name"]),
        spec.get("serviceAccountName") or "default",
        tuple(found["ip"] for found in status.get("podIPs") or () if found.get("ip")),
        bool(spec.get("hostNetwork")),
    )


@dataclasses.dataclass(frozen=True, slots=True)
class _Named:
    source: model.Service
    identities: tuple[str, ...]
    result: model.Service


class Identities:
    """The SPIFFE ids of pods, and of the endpoints that they are behind."""

    def __init__(self, trust_domain: str) -> None:
        self._trust_domain = trust_domain
        self._named: dict[str, _Named] = {}

    def workloads(self, pods: Iterable[Pod]) -> dict[str, model.Workload]:
        """Return what runs at each address that one pod alone has."""
        found: dict[str, model.Workload] = {}
        shared = set()
        for each in pods:
            workload = model.Workload(each.key[0], each.key[1], self._of(each))
            for address in each.addresses:
                if each.on_host or address in found:
                    shared.add(address)
                found[address] = workload
        return {address: workload for address, workload in found.items() if address not in shared}

    def mesh(self, source: model.Mesh, pods: Mapping[Key, Pod]) -> model.Mesh:
        """Return the mesh with the identity of each endpoint whose pod has its address.

        An EndpointSlice is its author's word: the pod that it names counts only when the endpoint is that pod.
        """
        named = {}
        for service in source.services:
            identities = tuple(self._behind(service, endpoint, pods) for endpoint in service.endpoints)
            known = self._named.get(service.canonical_name)
            if known is None or known.source is not service or known.identities != identities:
                known = _Named(service, identities, _with(service, identities))
            named[service.canonical_name] = known
        self._named = named
        return dataclasses.replace(source, services=tuple(found.result for found in named.values()))

    def _behind(self, service: model.Service, endpoint: model.Endpoint, pods: Mapping[Key, Pod]) -> str:
        found = pods.get((service.namespace, endpoint.instance))
        return self._of(found) if found is not None and endpoint.address in found.addresses else ""

    def _of(self, found: Pod) -> str:
        return f"spiffe://{self._trust_domain}/ns/{found.key[0]}/sa/{found.account}"


def _with(service: model.Service, identities: Iterable[str]) -> model.Service:
    endpoints = (
        dataclasses.replace(endpoint, identity=identity)
        for endpoint, identity in zip(service.endpoints, identities, strict=True)
    )
    return dataclasses.replace(service, endpoints=tuple(endpoints))


class PodWatch:
    """One watch. `deliver` gets all pods, by key, when the first listing is complete and after each change."""

    def __init__(self, api: client.ApiClient, deliver: Callable[[Mapping[Key, Pod]], None]) -> None:
        self._core = client.CoreV1Api(api)
        self._deliver = deliver
        self._pods: dict[Key, Pod] = {}

    async def run(self) -> None:
        """Follow until the API server has forgotten what happened since: then a new watch begins. Raises ApiError."""
        self._pods = {}
        version = await self._list()
        self._deliver(self._pods)
        while version:
            version = await self._follow(version)
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _list(self) -> str:
        more = ""
        while True:
            with translated():
                answer = await self._core.list_pod_for_all_namespaces_without_preload_content(
                    field_selector=_ALIVE, limit=_PAGE, _continue=more or None, _request_timeout=_LIST_SECONDS
                )
                _check(answer.status)
                page = json.loads(await answer.read())
            for found in map(pod, page["items"]):
                self._pods[found.key] = found
            more = page["metadata"].get("continue") or ""
            if not more:
                return str(page["metadata"]["resourceVersion"])

    async def _follow(self, version: str) -> str:
        """Take in changes since a version until the answer ends; the last version, empty when it is forgotten."""
        async with contextlib.aclosing(self._events(version)) as events:
            async for event in events:
                source = event["object"]
                if event["type"] == "ERROR":
                    if source.get("code") == HTTPStatus.GONE:
                        return ""
                    raise ApiError(f"the API server answers {source.get('code')}")
                version = source["metadata"]["resourceVersion"]
                if event["type"] != "BOOKMARK":
                    self._change(event["type"], pod(source))
        return version

    def _change(self, kind: str, found: Pod) -> None:
        before = self._pods.get(found.key)
        if kind == "DELETED":
            self._pods.pop(found.key, None)
        elif found != before:
            self._pods[found.key] = found
        if before != self._pods.get(found.key):
            self._deliver(self._pods)

    async def _events(self, version: str) -> AsyncGenerator[Object, None]:
        with translated():
            answer = await self._core.list_pod_for_all_namespaces_without_preload_content(
                field_selector=_ALIVE,
                watch=True,
                allow_watch_bookmarks=True,
                resource_version=version,
                timeout_seconds=_WATCH_SECONDS,
                _request_timeout=_LONGEST_SECONDS,
            )
            try:
                if answer.status == HTTPStatus.GONE:
                    yield {"type": "ERROR", "object": {"code": HTTPStatus.GONE}}
                    return
                _check(answer.status)
                while line := await answer.content.readline():
                    yield json.loads(line)
            finally:
                answer.close()


def _check(status: int) -> None:
    if status != HTTPStatus.OK:
        raise ApiError(f"the API server answers {status}")
