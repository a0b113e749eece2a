"""Asks a permission service the same by every RPC that answers, in the words of the oracles: True, False, or the names
of missing context.
"""

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.struct_pb2 import Struct

from pyairtable.permission.v1 import permission_pb2 as pb
from pyairtable.permission.v1 import permission_pb2_grpc
from pyairtable_mesh.runtime.authorization.facts import Relationship, Term, Verdict
from tests.contract.permission.serving import Metadata

Question = tuple[str, str, str]
"""Resource, permission, subject."""
_REFUSED = {grpc.StatusCode.PERMISSION_DENIED.value[0], grpc.StatusCode.NOT_FOUND.value[0]}
_MOST_IN_ONE_PAGE = 3
"""Small, so that lists are cut and taken up again."""


@dataclass(frozen=True)
class Under:
    """What a question is asked under."""

    consistency: pb.Consistency = field(default_factory=lambda: pb.Consistency(fully_consistent=True))
    context: Mapping[str, Any] = field(default_factory=dict)
    contextual: Sequence[Relationship] = ()

    def fields(self, *, assuming: bool = True) -> dict[str, Any]:
        """The fields of a request; some have no place for what is assumed."""
        given: dict[str, Any] = {"consistency": self.consistency}
        if assuming:
            given["contextual_relationships"] = list(map(message, self.contextual))
        return given


def message(each: Relationship) -> pb.Relationship:
    """A relationship as requests carry it."""
    return pb.Relationship(resource=each.object, relation=each.relation, subject=each.subject, **carried(each.term))


def carried(term: Term) -> dict[str, Any]:
    """The fields of a relationship or a role binding that say when it holds."""
    fields = dict[str, Any]()
    if term.condition:
        fields["condition"] = pb.ConditionReference(name=term.condition, context=struct(term.context))
    if term.expires is not None:
        fields["expire_time"] = {"seconds": int(term.expires)}
    return fields


def struct(values: Mapping[str, Any]) -> Struct:
    made = Struct()
    made.update(values)
    return made


def verdict(decision: pb.Decision | pb.FoundResource | pb.FoundSubject) -> Verdict:
    """What an answer says."""
    assert (decision.result == pb.Decision.RESULT_CONDITIONAL) == bool(decision.missing_context)
    return frozenset(decision.missing_context) or decision.result == pb.Decision.RESULT_ALLOWED


def agree(found: Verdict, expected: Verdict) -> bool:
    """Whether an answer is the oracle's, which names every missing context there is, needed here or not."""
    if isinstance(found, bool) or isinstance(expected, bool):
        return found == expected
    return found <= expected


@dataclass(frozen=True)
class Listed:
    """An entry of a list; `excluded` are the subjects that a wildcard does not stand for."""

    verdict: Verdict
    excluded: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Asking:
    """One space of a tenant (empty: the platform's), asked by who manages access there."""

    stub: permission_pb2_grpc.PermissionServiceStub
    metadata: Metadata
    space: str = ""

    async def check(self, question: Question, under: Under) -> Verdict:
        answer = await self.stub.CheckPermission(
            pb.CheckPermissionRequest(**self._question(question, under), **under.fields()), metadata=self.metadata
        )
        return verdict(answer.decision)

    async def batch(self, questions: Sequence[Question], under: Under) -> list[Verdict]:
        return list(map(_result, await self._batch(questions, under)))

    async def tried(self, questions: Sequence[Question], under: Under) -> list[Verdict | None]:
        """As `batch`, with None for each question that is not for who asks."""
        results = await self._batch(questions, under)
        return [None if each.error.code in _REFUSED else _result(each) for each in results]

    async def _batch(self, questions: Sequence[Question], under: Under) -> Sequence[pb.CheckResult]:
        request = pb.BatchCheckPermissionsRequest(items=_items(questions, under), space=self.space, **under.fields())
        answer = await self.stub.BatchCheckPermissions(request, metadata=self.metadata)
        return answer.results

    async def stream(self, questions: Sequence[Question], under: Under) -> list[Verdict]:
        given = under.fields(assuming=False)
        requests = [
            pb.StreamCheckPermissionsRequest(key=key, item=item, space=self.space, **given)
            for key, item in enumerate(_items(questions, under))
        ]
        answers = self.stub.StreamCheckPermissions(iter(requests), metadata=self.metadata)
        found = {each.key: _result(each.result) async for each in answers}
        return [found[key] for key in range(len(questions))]

    async def explain(self, question: Question, under: Under) -> pb.ExplainPermissionResponse:
        request = pb.ExplainPermissionRequest(**self._question(question, under), **under.fields())
        found: pb.ExplainPermissionResponse = await self.stub.ExplainPermission(request, metadata=self.metadata)
        return found

    async def expand(self, resource: str, permission: str, under: Under) -> pb.ExpansionNode:
        asked = {"resource": resource, "permission": permission, "space": self.space}
        request = pb.ExpandPermissionRequest(**asked, **under.fields(assuming=False))
        answer = await self.stub.ExpandPermission(request, metadata=self.metadata)
        return answer.root

    async def effective(self, resource: str, subject: str, under: Under) -> pb.GetEffectivePermissionsResponse:
        request = pb.GetEffectivePermissionsRequest(
            resource=resource, subject=subject, context=struct(under.context), **under.fields()
        )
        found: pb.GetEffectivePermissionsResponse = await self.stub.GetEffectivePermissions(
            request, metadata=self.metadata
        )
        return found

    async def resources(self, kind: str, permission: str, subject: str, under: Under) -> dict[str, Listed]:
        """The list, which is the same whole and in parts."""
        request = pb.LookupResourcesRequest(
            resource_type=kind, **self._asked(permission, under), subject=subject, **under.fields()
        )
        return await self._listed(self.stub.LookupResources, request)

    async def subjects(self, resource: str, permission: str, kind: str, under: Under) -> dict[str, Listed]:
        """The list, which is the same whole and in parts; `kind` is a type, or ``type#relation``."""
        subject_type, _, relation = kind.partition("#")
        request = pb.LookupSubjectsRequest(
            resource=resource,
            subject_type=subject_type,
            subject_relation=relation,
            **self._asked(permission, under),
            **under.fields(),
        )
        return await self._listed(self.stub.LookupSubjects, request)

    async def stored(self, resource_type: str, under: Under) -> list[pb.Relationship]:
        """What is stored at the resources of a type, page by page."""
        request = pb.ReadRelationshipsRequest(
            filter={"resource_type": resource_type}, page_size=_MOST_IN_ONE_PAGE, space=self.space
        )
        request.consistency.CopyFrom(under.consistency)
        found = list[pb.Relationship]()
        while True:
            page = await self.stub.ReadRelationships(request, metadata=self.metadata)
            found += page.relationships
            request.page_token = page.next_page_token
            if not page.next_page_token:
                return found

    async def exported(self, under: Under) -> list[pb.Relationship]:
        """Everything that is stored."""
        request = pb.ExportRelationshipsRequest(consistency=under.consistency, space=self.space)
        parts = self.stub.ExportRelationships(request, metadata=self.metadata)
        return [each async for part in parts for each in part.relationships]

    def _question(self, question: Question, under: Under) -> dict[str, Any]:
        resource, permission, subject = question
        return {"resource": resource, "subject": subject, **self._asked(permission, under)}

    def _asked(self, permission: str, under: Under) -> dict[str, Any]:
        return {"permission": permission, "space": self.space, "context": struct(under.context)}

    async def _listed(self, lookup: Any, request: Any) -> dict[str, Listed]:
        whole, end, _ = await _read(lookup(request, metadata=self.metadata))
        assert end.complete
        assert end.count == len(whole)
        request.limit, parts = _MOST_IN_ONE_PAGE, list[tuple[str, Listed]]()
        while True:
            part, end, request.cursor = await _read(lookup(request, metadata=self.metadata))
            parts += part
            assert end.count == len(parts)
            if end.complete:
                break
        assert parts == whole == sorted(whole, key=lambda each: each[0])
        return dict(whole)


async def _read(stream: AsyncIterator[Any]) -> tuple[list[tuple[str, Listed]], pb.LookupSummary, str]:
    """The entries of a list in their order, its end, and the cursor behind it. Nothing else reads these streams."""
    found = list[tuple[str, Listed]]()
    async for each in stream:
        found += _entries(each)
        if each.HasField("summary"):
            return found, each.summary, each.cursor
    raise AssertionError("a list without an end")


def _entries(part: pb.LookupResourcesResponse | pb.LookupSubjectsResponse) -> Iterator[tuple[str, Listed]]:
    if isinstance(part, pb.LookupResourcesResponse):
        for resource in part.resources:
            yield resource.resource, Listed(verdict(resource))
    else:
        for subject in part.subjects:
            yield subject.subject, Listed(verdict(subject), frozenset(subject.excluded_subjects))


def _items(questions: Iterable[Question], under: Under) -> list[pb.CheckItem]:
    context = struct(under.context)
    return [
        pb.CheckItem(resource=resource, permission=permission, subject=subject, context=context)
        for resource, permission, subject in questions
    ]


def _result(result: pb.CheckResult) -> Verdict:
    assert result.WhichOneof("outcome") == "decision", result.error
    return verdict(result.decision)
