"""The RPCs of `pyairtable.permission.v1.PermissionService` about models that tenants bring."""
# ruff: noqa: D102 - methods are named and described in permission.proto

from collections.abc import AsyncIterator, Sequence
from typing import Any

from pyairtable.permission.v1 import permission_pb2 as pb
from pyairtable_mesh.permission import messages, space_messages
from pyairtable_mesh.permission.cursors import Cursors
from pyairtable_mesh.permission.usecases.checks import Question
from pyairtable_mesh.permission.usecases.consistency import Consistency
from pyairtable_mesh.permission.usecases.lookups import Span
from pyairtable_mesh.permission.usecases.schemas import Schemas
from pyairtable_mesh.permission.usecases.space_questions import SpaceCircumstances, SpaceQuestions
from pyairtable_mesh.permission.usecases.spaces import Spaces
from pyairtable_mesh.runtime import pagination
from pyairtable_mesh.runtime.authorization import Decision
from pyairtable_mesh.runtime.context import RequestContext, current

_EXPORTED_IN_ONE_MESSAGE = 1_000


class SchemaRpcs:
    """Model spaces and their schemas."""

    def __init__(self, spaces: Spaces, schemas: Schemas, sealer: pagination.Sealer) -> None:
        self._spaces = spaces
        self._schemas = schemas
        self._pages = sealer

    async def CreateModelSpace(self, request: pb.CreateModelSpaceRequest, context: Any) -> pb.ModelSpace:
        return await self._spaces.create(current(), request.model_space.display_name, space_messages.from_space)

    async def GetModelSpace(self, request: pb.GetModelSpaceRequest, context: Any) -> pb.ModelSpace:
        return space_messages.from_space(await self._schemas.space(current(), messages.own_space(request.name)))

    async def ListModelSpaces(self, request: pb.ListModelSpacesRequest, context: Any) -> pb.ListModelSpacesResponse:
        caller = current()
        page = pagination.page_of(self._pages, caller, request)
        found = await self._schemas.spaces(caller, page.size + 1, str(page.after[0]) if page.after else "")
        last = (found[page.size - 1].id,) if len(found) > page.size else None
        shown = map(space_messages.from_space, found[: page.size])
        return pb.ListModelSpacesResponse(model_spaces=shown, next_page_token=page.next_token(last))

    async def GetSchema(self, request: pb.GetSchemaRequest, context: Any) -> pb.Schema:
        schema_id, space = request.name.removeprefix("schemas/"), messages.own_space(request.space)
        return space_messages.from_schema(await self._schemas.get(current(), schema_id, space))

    async def ListSchemaVersions(
        self, request: pb.ListSchemaVersionsRequest, context: Any
    ) -> pb.ListSchemaVersionsResponse:
        caller = current()
        page = pagination.page_of(self._pages, caller, request)
        after = str(page.after[0]) if page.after else ""
        found = await self._schemas.versions(caller, messages.own_space(request.space), page.size + 1, after)
        last = (found[page.size - 1].id,) if len(found) > page.size else None
        shown = [space_messages.from_schema(each, whole=False) for each in found[: page.size]]
        return pb.ListSchemaVersionsResponse(schemas=shown, next_page_token=page.next_token(last))

    async def WriteSchema(self, request: pb.WriteSchemaRequest, context: Any) -> pb.WriteSchemaResponse:
        return await self._spaces.write_schema(
            current(),
            space_messages.changeable(request.space),
            request.source,
            request.expected_current,
            lambda version, token: pb.WriteSchemaResponse(
                schema=space_messages.from_schema(version), consistency_token=token
            ),
        )

    async def DiffSchemas(self, request: pb.DiffSchemasRequest, context: Any) -> pb.DiffSchemasResponse:
        before, after = space_messages.source(request.before), space_messages.source(request.after)
        found = await self._schemas.diff(current(), before, after)
        return pb.DiffSchemasResponse(differences=[space_messages.from_difference(*each) for each in found])

    async def TestSchema(self, request: pb.TestSchemaRequest, context: Any) -> pb.TestSchemaResponse:
        outcomes = await self._schemas.test(
            current(),
            space_messages.source(request.schema),
            space_messages.relationships(request.relationships, "relationships"),
            [space_messages.assertion(each) for each in request.assertions],
            messages.own_space(request.space),
        )
        results = [
            space_messages.from_outcome(asked, each) for asked, each in zip(request.assertions, outcomes, strict=True)
        ]
        return pb.TestSchemaResponse(results=results, passed=all(each.passed for each in outcomes))


class SpaceRpcs:
    """What the servicer does for a request that names a model space of the tenant."""

    def __init__(self, questions: SpaceQuestions, spaces: Spaces, cursors: Cursors, sealer: pagination.Sealer) -> None:
        self._questions = questions
        self._spaces = spaces
        self._cursors = cursors
        self._sealer = sealer

    async def check(self, space: str, request: pb.CheckPermissionRequest) -> pb.CheckPermissionResponse:
        given = _given(request.contextual_relationships, request.consistency)
        decision, token = await self._questions.check(current(), space, messages.question(request), given)
        return pb.CheckPermissionResponse(decision=messages.from_decision(decision, token))

    async def answer(self, space: str, question: Question, consistency: Consistency) -> tuple[Decision, str]:
        return await self._questions.check(current(), space, question, SpaceCircumstances((), consistency))

    async def batch(self, space: str, request: pb.BatchCheckPermissionsRequest) -> pb.BatchCheckPermissionsResponse:
        given = _given(request.contextual_relationships, request.consistency)
        questions = [messages.question(item) for item in request.items]
        results, token = await self._questions.batch(current(), space, questions, given)
        return messages.from_results(results, token)

    async def explain(self, space: str, request: pb.ExplainPermissionRequest) -> pb.ExplainPermissionResponse:
        given = _given(request.contextual_relationships, request.consistency)
        found, token = await self._questions.explain(current(), space, messages.question(request), given)
        return space_messages.from_explanation(found, token)

    async def expand(self, space: str, request: pb.ExpandPermissionRequest) -> pb.ExpandPermissionResponse:
        asked, consistency = Question(request.resource, request.permission), messages.consistency(request.consistency)
        root, token = await self._questions.expand(current(), space, asked, request.max_depth, consistency)
        return pb.ExpandPermissionResponse(root=messages.from_node(root), consistency_token=token)

    async def write(self, space: str, request: pb.WriteRelationshipsRequest) -> pb.WriteRelationshipsResponse:
        updates, preconditions = space_messages.updates(request.updates), messages.preconditions(request.preconditions)
        return await self._spaces.write(
            current(),
            space,
            updates,
            preconditions,
            lambda token: pb.WriteRelationshipsResponse(consistency_token=token),
        )

    async def delete(self, space: str, request: pb.DeleteRelationshipsRequest) -> pb.DeleteRelationshipsResponse:
        preconditions = messages.preconditions(request.preconditions)
        return await self._spaces.delete(
            current(),
            space,
            messages.relationship_filter(request.filter),
            preconditions,
            lambda count, token: pb.DeleteRelationshipsResponse(deleted_count=count, consistency_token=token),
        )

    async def read(self, space: str, request: pb.ReadRelationshipsRequest) -> pb.ReadRelationshipsResponse:
        caller = current()
        page = pagination.page_of(self._sealer, caller, request)
        after = (str(page.after[0]), str(page.after[1]), str(page.after[2])) if page.after else None
        wanted, consistency = messages.relationship_filter(request.filter), messages.consistency(request.consistency)
        found, revision = await self._spaces.read(caller, space, wanted, consistency, page.size + 1, after)
        last = found[page.size - 1].key if len(found) > page.size else None
        return pb.ReadRelationshipsResponse(
            relationships=map(messages.from_space_relationship, found[: page.size]),
            next_page_token=page.next_token(last),
            consistency_token=self._spaces.token(caller, space, revision),
        )

    async def resources(
        self, space: str, request: pb.LookupResourcesRequest
    ) -> AsyncIterator[pb.LookupResourcesResponse]:
        caller = current()
        given = _given(request.contextual_relationships, request.consistency)
        asked = Question("", request.permission, request.subject, messages.context(request))
        span = self._span(caller, request)
        async for part in self._questions.resources(caller, space, request.resource_type, asked, given, span):
            yield messages.from_resources(part, lambda place: self._cursors.of(caller, request, place))

    async def subjects(self, space: str, request: pb.LookupSubjectsRequest) -> AsyncIterator[pb.LookupSubjectsResponse]:
        caller = current()
        given = _given(request.contextual_relationships, request.consistency)
        asked = Question(request.resource, request.permission, "", messages.context(request))
        kind = (request.subject_type, request.subject_relation)
        async for part in self._questions.subjects(caller, space, asked, kind, given, self._span(caller, request)):
            yield messages.from_subjects(part, lambda place: self._cursors.of(caller, request, place))

    def _span(self, caller: RequestContext, request: pb.LookupResourcesRequest | pb.LookupSubjectsRequest) -> Span:
        return Span(self._cursors.place(caller, request), request.limit)

    async def export(
        self, space: str, request: pb.ExportRelationshipsRequest
    ) -> AsyncIterator[pb.ExportRelationshipsResponse]:
        caller, everything = current(), messages.relationship_filter(pb.RelationshipFilter())
        revision, after = self._cursors.exported(caller, request)
        consistency, size = messages.consistency(request.consistency), _EXPORTED_IN_ONE_MESSAGE
        while True:
            page = (everything, consistency, size + 1, after, revision)
            found, revision = await self._spaces.read(caller, space, *page)
            part = found[:size]
            after = part[-1].key if part else None
            more = len(found) > size
            yield pb.ExportRelationshipsResponse(
                relationships=map(messages.from_space_relationship, part),
                cursor=self._cursors.sealed(caller, request, [revision, *(after or ())]) if more else "",
                consistency_token=self._spaces.token(caller, space, revision),
            )
            if not more:
                return

    async def add(self, space: str, request: pb.ImportRelationshipsRequest) -> tuple[int, str]:
        stored = space_messages.relationships(request.relationships, "relationships")
        return await self._spaces.add(current(), space, stored)


def _given(contextual: Sequence[pb.Relationship], consistency: pb.Consistency) -> SpaceCircumstances:
    stored = space_messages.relationships(contextual, "contextual_relationships")
    return SpaceCircumstances(stored, messages.consistency(consistency))
