"""May the caller do this: the access table's row, answered by the permission service."""

from collections.abc import Awaitable, Sequence
from typing import Any

from pyairtable_mesh.runtime import access
from pyairtable_mesh.runtime.authorizer import Answer, Authorizer, Undecided
from pyairtable_mesh.runtime.context import RequestContext
from pyairtable_mesh.runtime.errors import InvalidArgument, MeshError, NotFound, PermissionDenied
from pyairtable_mesh.runtime.interceptors.call import Call, Check, Gate, Method


def _shape_of(method: Method) -> Check | None:
    rows = [row for row in method.row.ways() if row.field and row.kind in {"on", "own"}] if method.row else []
    if not rows:
        return None
    readers = [(row.field, row.kind == "on", access.reader(row.field)) for row in rows]

    def take(call: Call, request: Any) -> None:
        for field, required, read in readers:
            found = read(request) if request is not None else []
            named = [access.reference(where, value) for where, value in found if value or required]
            if required and not named:  # nothing to ask about must not read as "allowed"
                raise InvalidArgument.of_field(field, "name at least one resource", rule="resource.required")
            call.resources[field] = named

    async def take_first(call: Call) -> None:
        take(call, await call.first())

    def check(call: Call) -> Awaitable[None] | None:
        if call.requests is not None:
            return take_first(call)
        take(call, call.request)
        return None

    return check


shape = Gate(_shape_of)
"""Refuses a malformed resource field before anything is asked about it, so that it never reads as a denial."""


def authorize(authorizer: Authorizer, namespace: str) -> Gate:
    """Try the row's ways in their order; the last one's denial is what the caller gets. `namespace` is our own."""

    def check_of(method: Method) -> Check | None:
        if method.row is None or method.row.kind == "public":
            return None
        ways = tuple(method.row.ways())

        async def check(call: Call) -> None:
            denial: MeshError | None = None
            for way in ways:
                questions = access.questions(way, call.resources.get(way.field, ()), call.context, namespace)
                if questions is None:
                    continue
                refused = _refused(questions, await authorizer.check(call.context, questions)) if questions else None
                if refused is None:
                    return
                denial = await _denial(authorizer, call.context, *refused)
            raise denial or _not_for(method, call.context)

        return check

    return Gate(check_of)


def _refused(questions: list[access.Question], answers: Sequence[Answer]) -> tuple[access.Question, Answer] | None:
    """The first question that was answered with no, and how."""
    for question, answer in zip(questions, answers, strict=True):
        if not answer:
            return question, answer
    return None


async def _denial(
    authorizer: Authorizer, caller: RequestContext, refused: access.Question, answer: Answer
) -> MeshError:
    """What to answer: NOT_FOUND for a resource that the caller may not even see."""
    resource, verb = refused
    visible = verb != "read" and (await authorizer.check(caller, [(resource, "read")]))[0]
    if not visible and not resource.startswith("tenant:"):
        return NotFound(resource.partition(":")[0], resource)
    why = "ExplainPermission says why"
    if isinstance(answer, Undecided):
        names = ", ".join(sorted(answer.missing))
        why = f"it has that under a condition only, on {names}, which no service asks about"
    return PermissionDenied(
        f"{caller.actor.subject} may not {verb} {resource}; {why}", metadata={"resource": resource, "permission": verb}
    )


def _not_for(method: Method, caller: RequestContext) -> PermissionDenied:
    reason = "WORKLOAD_NOT_ALLOWED" if caller.actor.kind == "workload" else ""
    return PermissionDenied(f"{method.name} is not for {caller.actor.subject}", reason=reason)
