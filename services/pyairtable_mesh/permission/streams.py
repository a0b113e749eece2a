"""The streaming RPCs of `pyairtable.permission.v1.PermissionService`."""
# ruff: noqa: D102 - methods are named and described in permission.proto

import json
from collections.abc import AsyncIterator
from typing import Any

from google.protobuf.message import Message

from pyairtable.permission.v1 import permission_pb2 as pb
from pyairtable_mesh.permission import messages
from pyairtable_mesh.permission.usecases import past
from pyairtable_mesh.permission.usecases.checks import Checks, Circumstances, Question
from pyairtable_mesh.permission.usecases.lookups import Lookups, Place, Span
from pyairtable_mesh.permission.usecases.relationships import Relationships
from pyairtable_mesh.permission.usecases.watching import Snapshot, Watching
from pyairtable_mesh.runtime import pagination
from pyairtable_mesh.runtime.context import RequestContext, current
from pyairtable_mesh.runtime.errors import InvalidArgument, MeshError
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
        sealer: pagination.Sealer,
    ) -> None:
        self._asking = checks
        self._lookups = lookups
        self._watching = watching
        self._moving = relationships
        self._cursors = Cursors(sealer)

    async def StreamCheckPermissions(
        self, request_iterator: AsyncIterator[pb.StreamCheckPermissionsRequest], context: Any
    ) -> AsyncIterator[pb.StreamCheckPermissionsResponse]:
        async for request in request_iterator:
            try:
                messages.require_platform(request.space)
                given = Circumstances(consistency=messages.consistency(request.consistency))
                result, token = await self._asking.check(current(), messages.question(request.item), given)
                answer = messages.from_result(result)
            except MeshError as error:
                answer, token = messages.from_result(error), ""
            yield pb.StreamCheckPermissionsResponse(key=request.key, result=answer, consistency_token=token)

    async def LookupResources(
        self, request: pb.LookupResourcesRequest, context: Any
    ) -> AsyncIterator[pb.LookupResourcesResponse]:
        caller = current()
        given = messages.circumstances(request.contextual_relationships, request.consistency, request.space)
        asked = Question("", request.permission, request.subject, messages.context(request))
        span = Span(self._cursors.place(caller, request), request.limit)
        async for part in self._lookups.resources(caller, request.resource_type, asked, given, span):
            for number, each in enumerate(part.entries, 1):
                place = Place(part.place.revision, each.reference, part.place.count + number)
                cursor = self._cursors.of(caller, request, place)
                yield pb.LookupResourcesResponse(resource=messages.from_found_resource(each), cursor=cursor)
            if part.complete is not None:
                cursor = "" if part.complete else self._cursors.of(caller, request, part.place)
                yield pb.LookupResourcesResponse(summary=messages.from_end(part), cursor=cursor)

    async def LookupSubjects(
        self, request: pb.LookupSubjectsRequest, context: Any
    ) -> AsyncIterator[pb.LookupSubjectsResponse]:
        caller = current()
        given = messages.circumstances(request.contextual_relationships, request.consistency, request.space)
        asked = Question(request.resource, request.permission, "", messages.context(request))
        span = Span(self._cursors.place(caller, request), request.limit)
        kind = (request.subject_type, request.subject_relation)
        async for part in self._lookups.subjects(caller, asked, *kind, given, span):
            for number, each in enumerate(part.entries, 1):
                place = Place(part.place.revision, each.reference, part.place.count + number)
                cursor = self._cursors.of(caller, request, place)
                yield pb.LookupSubjectsResponse(subject=messages.from_found_subject(each), cursor=cursor)
            if part.complete is not None:
                cursor = "" if part.complete else self._cursors.of(caller, request, part.place)
                yield pb.LookupSubjectsResponse(summary=messages.from_end(part), cursor=cursor)

    async def WatchRelationships(
        self, request: pb.WatchRelationshipsRequest, context: Any
    ) -> AsyncIterator[pb.WatchRelationshipsResponse]:
        messages.require_platform(request.space)
        types, heartbeat = request.resource_types, _heartbeat(request)
        async for beat in self._watching.watch(current(), request.start_token, types, heartbeat):
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
        caller = current()
        messages.require_platform(request.space)
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
            messages.require_platform(request.space)
            stored = [
                messages.relationship(each, f"relationships[{at}]") for at, each in enumerate(request.relationships)
            ]
            count, answer.consistency_token = await self._moving.add(current(), stored)
            answer.imported_count += count
        return answer


class Cursors:
    """Seals where a list was left off, for the same caller and the same request."""

    def __init__(self, sealer: pagination.Sealer) -> None:
        self._sealer = sealer

    def sealed(self, caller: RequestContext, request: Message, values: list[Any]) -> str:
        """The cursor of a place."""
        payload = json.dumps(values, separators=(",", ":")).encode()
        return self._sealer.seal("cursor", payload, *_binding(caller, request))

    def opened(self, caller: RequestContext, request: Any) -> list[Any] | None:
        """The place of the request's cursor; None without one. InvalidArgument for one of another list."""
        if not request.cursor:
            return None
        try:
            found: list[Any] = json.loads(self._sealer.open("cursor", request.cursor, *_binding(caller, request)))
        except pagination.SealBrokenError:
            words = "is not from this list with the same arguments; begin again without one"
            raise InvalidArgument.of_field("cursor", words, reason="CURSOR_INVALID") from None
        return found

    def of(self, caller: RequestContext, request: Message, place: Place) -> str:
        """The cursor of a place in a look-up."""
        return self.sealed(caller, request, [place.revision, place.after, place.count])

    def place(self, caller: RequestContext, request: Message) -> Place | None:
        """The place of a look-up's cursor."""
        found = self.opened(caller, request)
        return Place(*found) if found is not None else None

    def exported(self, caller: RequestContext, request: Message) -> tuple[int, tuple[str, str, str] | None]:
        """The revision (0: none yet) and key of an export's cursor."""
        found = self.opened(caller, request)
        return (int(found[0]), (str(found[1]), str(found[2]), str(found[3]))) if found else (0, None)


def _binding(caller: RequestContext, request: Message) -> tuple[str | bytes, ...]:
    arguments = type(request)()
    arguments.CopyFrom(request)
    for name in ("cursor", "limit", "consistency"):
        if name in request.DESCRIPTOR.fields_by_name:
            arguments.ClearField(name)
    return caller.method, caller.tenant_id, caller.actor.subject, arguments.SerializeToString(deterministic=True)


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
