"""`pyairtable.mesh.v1.StatusService`: what the control plane knows and what its clients have made of it."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from typing import Any

from google.protobuf import message

from pyairtable.mesh.v1 import mesh_pb2, mesh_pb2_grpc
from pyairtable_mesh.runtime import errors
from pyairtable_operator import model
from pyairtable_operator.inventory import Inventory
from pyairtable_operator.status import messages, paging
from pyairtable_operator.status.access import Access, Visible
from pyairtable_operator.status.acknowledgements import services_of, tallies
from pyairtable_operator.status.explain import explain
from pyairtable_operator.xds import snapshot as snapshots
from pyairtable_operator.xds.ads import Client, Hub
from pyairtable_operator.xds.responses import Responses

SERVICE_NAME = "pyairtable.mesh.v1.StatusService"

_CALM_SECONDS = 0.1
_HEARTBEAT_SECONDS = 15.0
_CHANGES_PER_RESPONSE = 200
_MAX_WATCHERS = 64
_NAMESPACE_OF_IDENTITY = re.compile(r"spiffe://[^/]+/ns/([^/]+)/")

_Objects = dict[str, mesh_pb2.Service | mesh_pb2.Client | mesh_pb2.Route]


class StatusServicer(mesh_pb2_grpc.StatusServiceServicer):
    """Answers from the hub's state, to each caller what it may see of it; nothing is stored."""

    def __init__(self, hub: Hub, inventory: Inventory, access: Access) -> None:
        self._hub = hub
        self._inventory = inventory
        self._access = access
        self._empty = Responses(snapshots.build(model.Mesh()))
        self._watchers = 0

    async def ListServices(self, request: mesh_pb2.ListServicesRequest, context: Any) -> mesh_pb2.ListServicesResponse:
        """List services, those with problems only too."""
        page = paging.page_of(request.page_token, request.page_size, request.namespace)
        responses = self._responses(page)
        visible = await self._visible(context, responses, request.namespace)
        found = [item for item in self._services(responses) if visible(item.namespace)]
        items, token = page.cut([(item.name, item) for item in found], responses.snapshot.version)
        version = responses.snapshot.version
        return mesh_pb2.ListServicesResponse(services=items, next_page_token=token, snapshot_version=version)

    async def ListClients(self, request: mesh_pb2.ListClientsRequest, context: Any) -> mesh_pb2.ListClientsResponse:
        """List connected clients in the order in which they came."""
        page = paging.page_of(request.page_token, request.page_size, request.service)
        responses = self._hub.responses or self._empty
        wanted = request.service.removeprefix("services/")
        visible = await self._visible(context, responses)
        seen = [found for found in self._clients() if visible(found.session.node.namespace)]
        clients = [found for found in seen if not wanted or wanted in services_of(responses, found)]
        chosen, token = page.cut([(f"{found.id:020}", found) for found in clients])
        return mesh_pb2.ListClientsResponse(clients=[messages.client(found) for found in chosen], next_page_token=token)

    async def ListRoutes(self, request: mesh_pb2.ListRoutesRequest, context: Any) -> mesh_pb2.ListRoutesResponse:
        """List the routes of services."""
        page = paging.page_of(request.page_token, request.page_size, request.service)
        responses = self._responses(page)
        visible = await self._visible(context, responses)
        found = [item for item in self._routes(responses, visible) if request.service in ("", item.service)]
        items, token = page.cut([(item.name, item) for item in found], responses.snapshot.version)
        version = responses.snapshot.version
        return mesh_pb2.ListRoutesResponse(routes=items, next_page_token=token, snapshot_version=version)

    async def WatchStatus(
        self, request: mesh_pb2.WatchStatusRequest, context: Any
    ) -> AsyncIterator[mesh_pb2.WatchStatusResponse]:
        """Stream everything, then what changes. There is no resuming: every stream begins with everything."""
        if self._watchers >= _MAX_WATCHERS:
            raise errors.ResourceExhausted(f"{_MAX_WATCHERS} streams watch the status already")
        heartbeat = request.heartbeat_interval.ToTimedelta().total_seconds() or _HEARTBEAT_SECONDS
        self._watchers += 1
        try:
            async for response in self._watch(context, request.namespace, heartbeat):
                yield response
        finally:
            self._watchers -= 1

    async def Explain(self, request: mesh_pb2.ExplainRequest, context: Any) -> mesh_pb2.ExplainResponse:
        """Say where a call would go."""
        await self._visible(context, self._hub.responses or self._empty)
        if request.WhichOneof("caller") == "client":
            namespace = self._client(request.client).session.node.namespace
        else:
            identity = _NAMESPACE_OF_IDENTITY.match(request.identity)
            namespace = identity[1] if identity else ""
        snapshot = self._snapshot(request.snapshot_version)
        entry = snapshot.lookup(request.target, namespace)
        homes = {problem.namespace for problem in snapshot.problems if problem.service == request.target}
        if entry is not None:
            homes.add(entry.service.namespace)
        await self._access.check(context, homes | {namespace})
        return explain(snapshot, namespace, request.target, request.method)

    async def Diff(self, request: mesh_pb2.DiffRequest, context: Any) -> mesh_pb2.DiffResponse:
        """Answer UNIMPLEMENTED: a later release compares."""
        raise _unimplemented("Diff")

    def Tap(self, request: mesh_pb2.TapRequest, context: Any) -> AsyncIterator[mesh_pb2.TapResponse]:
        """Answer UNIMPLEMENTED: runtimes do not report calls yet."""
        raise _unimplemented("Tap")

    def Top(self, request: mesh_pb2.TopRequest, context: Any) -> AsyncIterator[mesh_pb2.TopResponse]:
        """Answer UNIMPLEMENTED: runtimes do not report rates yet."""
        raise _unimplemented("Top")

    async def _watch(
        self, context: Any, namespace: str, heartbeat: float
    ) -> AsyncIterator[mesh_pb2.WatchStatusResponse]:
        loop = asyncio.get_running_loop()
        sent: _Objects = {}
        initial, silent_until = True, loop.time() + heartbeat
        while not self._hub.closing:
            changed = self._hub.changed
            responses = self._hub.responses or self._empty
            # Asked each time: a right that is taken away ends the stream.
            now = self._everything(responses, await self._visible(context, responses, namespace))
            changes = _changes(sent, now)
            if changes or initial or loop.time() >= silent_until:
                for start in range(0, len(changes) or 1, _CHANGES_PER_RESPONSE):
                    yield mesh_pb2.WatchStatusResponse(
                        changes=changes[start : start + _CHANGES_PER_RESPONSE],
                        initial=initial,
                        snapshot_version=responses.snapshot.version,
                    )
                sent, initial, silent_until = now, False, loop.time() + heartbeat
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(silent_until):
                    await changed.wait()
            await asyncio.sleep(_CALM_SECONDS)

    async def _visible(self, context: Any, responses: Responses, namespace: str = "") -> Visible:
        """Say of which namespaces, of all or of the one that is asked for, the caller may see things."""
        if namespace:
            visible = await self._access.visible(context, {namespace})
            return lambda found: found == namespace and visible(found)
        homes = {entry.service.namespace for entry in responses.snapshot.entries.values()}
        homes |= {problem.namespace for problem in responses.snapshot.problems}
        return await self._access.visible(context, homes | {found.session.node.namespace for found in self._clients()})

    def _everything(self, responses: Responses, visible: Visible) -> _Objects:
        clients = [found for found in self._clients() if visible(found.session.node.namespace)]
        result: _Objects = {item.name: item for item in self._services(responses) if visible(item.namespace)}
        result |= {item.name: item for item in self._routes(responses, visible)}
        return result | {item.name: item for item in map(messages.client, clients)}

    def _services(self, responses: Responses) -> list[mesh_pb2.Service]:
        counted = tallies(responses, self._clients())
        return list(messages.services(responses.snapshot, counted, self._inventory.troubles))

    def _routes(self, responses: Responses, visible: Visible) -> list[mesh_pb2.Route]:
        counted = tallies(responses, self._clients())
        entries = responses.snapshot.entries
        return [
            messages.route(entries[name], counted.get(name))
            for name in sorted(entries)
            if visible(entries[name].service.namespace)
        ]

    def _clients(self) -> list[Client]:
        return list(self._hub.clients.values())

    def _client(self, name: str) -> Client:
        for client in self._clients():
            if name == f"clients/{client.id}":
                return client
        raise errors.NotFound("mesh.pyairtable.io/Client", name)

    def _responses(self, page: paging.Page) -> Responses:
        current = self._hub.responses or self._empty
        if page.version in ("", current.snapshot.version):
            return current
        kept = self._hub.kept.get(page.version)
        if kept is None:
            raise paging.invalid_token()
        return Responses(kept)

    def _snapshot(self, version: str) -> snapshots.Snapshot:
        current = (self._hub.responses or self._empty).snapshot
        if version in ("", current.version):
            return current
        kept = self._hub.kept.get(version)
        if kept is None:
            raise errors.NotFound("mesh.pyairtable.io/Snapshot", version, reason="SNAPSHOT_EXPIRED")
        return kept


def _changes(before: _Objects, now: _Objects) -> list[mesh_pb2.StatusChange]:
    changes = [_change(item) for name, item in now.items() if before.get(name) != item]
    return changes + [mesh_pb2.StatusChange(removed_name=name) for name in before if name not in now]


def _change(item: message.Message) -> mesh_pb2.StatusChange:
    match item:
        case mesh_pb2.Service():
            return mesh_pb2.StatusChange(service=item)
        case mesh_pb2.Client():
            return mesh_pb2.StatusChange(client=item)
        case mesh_pb2.Route():
            return mesh_pb2.StatusChange(route=item)
        case _:
            raise TypeError(f"a {item.DESCRIPTOR.full_name} is no part of the status")


def _unimplemented(method: str) -> errors.Unimplemented:
    words = f"{SERVICE_NAME}/{method} is in the contract, and not yet in this release"
    return errors.Unimplemented(words, metadata={"method": f"{SERVICE_NAME}/{method}"})
