"""Follows pods: which account runs at which address.

This is not kopf's work like the rest: its gate for the first listing costs the square of the number of objects, and a
cluster has many more pods than Services. A pod is kept as its name, account and addresses; nothing else of it is read.
"""

import dataclasses
import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any

from kubernetes.aio import client

from pyairtable_operator import model
from pyairtable_operator.providers.kubernetes.client import ApiError, translated

_ALIVE = "status.phase!=Succeeded,status.phase!=Failed"
_PAGE = 500
_CONNECT_SECONDS, _LIST_SECONDS, _SILENCE_SECONDS = 5.0, 30.0, 330.0
_WATCH_SECONDS = 300

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
        return {
            address: model.Workload(found.key[0], found.key[1], self._of(found))
            for found in pods
            if not found.on_host
            for address in found.addresses
        }

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
        async for event in self._events(version):
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

    async def _events(self, version: str) -> AsyncIterator[Object]:
        with translated():
            answer = await self._core.list_pod_for_all_namespaces_without_preload_content(
                field_selector=_ALIVE,
                watch=True,
                allow_watch_bookmarks=True,
                resource_version=version,
                timeout_seconds=_WATCH_SECONDS,
                _request_timeout=_SILENCE_SECONDS,
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
