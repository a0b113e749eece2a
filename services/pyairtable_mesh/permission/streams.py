"""The streaming RPCs of `pyairtable.permission.v1.PermissionService`."""
# ruff: noqa: D102 - methods are named and described in permission.proto

from collections.abc import AsyncIterator
from typing import Any

from pyairtable.permission.v1 import permission_pb2 as pb
from pyairtable_mesh.permission import messages
from pyairtable_mesh.permission.cursors import Cursors
from pyairtable_mesh.permission.models import SpaceRpcs
from pyairtable_mesh.permission.usecases import past
from pyairtable_mesh.permission.usecases.checks import Checks, Question
from pyairtable_mesh.permission.usecases.lookups import Lookups, Span
from pyairtable_mesh.permission.usecases.relationships import Relationships
from pyairtable_mesh.permission.usecases.watching import Snapshot, Watching
from pyairtable_mesh.runtime.context import current
from pyairtable_mesh.runtime.errors import MeshError
from pyairtable_mesh.runtime.moments import to_timestamp, utc_now

_HEARTBEAT_SECONDS = 10.0
_CHUNK_BYTES = 1 << 20
_EXPORTED_IN_ONE_MESSAGE = 1_000


class StreamingRpcs:
    """What follows, lists and moves permissions of the caller's tenant."""

    def __init__(
        self,
        checks: Checks,
        lookups: Lookups,
        watching: Watching,
        relationships: Relationships,
        in_spaces: SpaceRpcs,
        cursors: Cursors,
    ) -> None:
        self._asking = checks
        self._lookups = lookups
        self._watching = watching
        self._moving = relationships
        self._in_spaces = in_spaces
        self._cursors = cursors

    async def StreamCheckPermissions(
        self, request_iterator: AsyncIterator[pb.StreamCheckPermissionsRequest], context: Any
    ) -> AsyncIterator[pb.StreamCheckPermissionsResponse]:
        async for request in request_iterator:
            try:
                answer, token = await self._answered(request)
            except MeshError as error:
                answer, token = messages.from_result(error), ""
            yield pb.StreamCheckPermissionsResponse(key=request.key, result=answer, consistency_token=token)

    async def _answered(self, request: pb.StreamCheckPermissionsRequest) -> tuple[pb.CheckResult, str]:
        question, given = messages.question(request.item), messages.circumstances((), request.consistency)
        if space := messages.own_space(request.space):
            decision, token = await self._in_spaces.answer(space, question, given.consistency)
        else:
            decision, token = await self._asking.check(current(), question, given)
        return messages.from_result(decision), token

    async def LookupResources(
        self, request: pb.LookupResourcesRequest, context: Any
    ) -> AsyncIterator[pb.LookupResourcesResponse]:
        if space := messages.own_space(request.space):
            async for found in self._in_spaces.resources(space, request):
                yield found
            return
        caller = current()
        given = messages.circumstances(request.contextual_relationships, request.consistency)
        asked = Question("", request.permission, request.subject, messages.context(request))
        span = Span(self._cursors.place(caller, request), request.limit)
        async for part in self._lookups.resources(caller, request.resource_type, asked, given, span):
            yield messages.from_resources(part, lambda place: self._cursors.of(caller, request, place))

    async def LookupSubjects(
        self, request: pb.LookupSubjectsRequest, context: Any
    ) -> AsyncIterator[pb.LookupSubjectsResponse]:
        if space := messages.own_space(request.space):
            async for found in self._in_spaces.subjects(space, request):
                yield found
            return
        caller = current()
        given = messages.circumstances(request.contextual_relationships, request.consistency)
        asked = Question(request.resource, request.permission, "", messages.context(request))
        span = Span(self._cursors.place(caller, request), request.limit)
        kind = (request.subject_type, request.subject_relation)
        async for part in self._lookups.subjects(caller, asked, *kind, given, span):
            yield messages.from_subjects(part, lambda place: self._cursors.of(caller, request, place))

    async def WatchRelationships(
        self, request: pb.WatchRelationshipsRequest, context: Any
    ) -> AsyncIterator[pb.WatchRelationshipsResponse]:
        types, heartbeat = request.resource_types, _heartbeat(request)
        space = messages.own_space(request.space)
        async for beat in self._watching.watch(current(), space, request.start_token, types, heartbeat):
            yield pb.WatchRelationshipsResponse(
                changes=messages.from_changes(beat.changes.changes) if beat.changes else (),
                checkpoint_token=beat.token,
                time=to_timestamp(beat.changes.time if beat.changes else utc_now()),
            )

    async def StreamReplica(
        self, request: pb.StreamReplicaRequest, context: Any
    ) -> AsyncIterator[pb.StreamReplicaResponse]:
        tenant_id, types = request.tenant.removeprefix("tenants/"), request.resource_types
        async for each in self._watching.replica(tenant_id, request.checkpoint_token, types, _heartbeat(request)):
            if isinstance(each, Snapshot):
                for chunk in _chunks(each):
                    yield chunk
                continue
            changes = pb.ReplicaChanges(changes=messages.from_changes(each.changes.changes)) if each.changes else None
            yield pb.StreamReplicaResponse(
                changes=changes, revision=each.revision, checkpoint_token=each.token, time=to_timestamp(utc_now())
            )

    async def ExportRelationships(
        self, request: pb.ExportRelationshipsRequest, context: Any
    ) -> AsyncIterator[pb.ExportRelationshipsResponse]:
        if space := messages.own_space(request.space):
            async for exported in self._in_spaces.export(space, request):
                yield exported
            return
        caller = current()
        revision, after = self._cursors.exported(caller, request)
        consistency = messages.consistency(request.consistency)
        while True:
            size = _EXPORTED_IN_ONE_MESSAGE
            found, revision = await self._moving.export(caller, consistency, revision, after, size + 1)
            part = found[:size]
            after = past.relationship_key(part[-1]) if part else None
            more = len(found) > size
            yield pb.ExportRelationshipsResponse(
                relationships=map(messages.from_relationship, part),
                cursor=self._cursors.sealed(caller, request, [revision, *(after or ())]) if more else "",
                consistency_token=self._asking.token(caller, revision),
            )
            if not more:
                return

    async def ImportRelationships(
        self, request_iterator: AsyncIterator[pb.ImportRelationshipsRequest], context: Any
    ) -> pb.ImportRelationshipsResponse:
        answer = pb.ImportRelationshipsResponse()
        async for request in request_iterator:
            count, answer.consistency_token = await self._added(request)
            answer.imported_count += count
        return answer

    async def _added(self, request: pb.ImportRelationshipsRequest) -> tuple[int, str]:
        if space := messages.own_space(request.space):
            return await self._in_spaces.add(space, request)
        named = enumerate(request.relationships)
        return await self._moving.add(
            current(), [messages.relationship(each, f"relationships[{at}]") for at, each in named]
        )


def _heartbeat(request: pb.WatchRelationshipsRequest | pb.StreamReplicaRequest) -> float:
    return request.heartbeat_interval.ToTimedelta().total_seconds() or _HEARTBEAT_SECONDS


def _chunks(snapshot: Snapshot) -> list[pb.StreamReplicaResponse]:
    size = len(snapshot.data)
    return [
        pb.StreamReplicaResponse(
            snapshot=pb.ReplicaSnapshotChunk(
                data=snapshot.data[first : first + _CHUNK_BYTES],
                total_bytes=size,
                last=first + _CHUNK_BYTES >= size,
            ),
            revision=snapshot.revision,
            checkpoint_token=snapshot.token if first + _CHUNK_BYTES >= size else "",
            time=to_timestamp(utc_now()),
        )
        for first in range(0, size, _CHUNK_BYTES)
    ]
