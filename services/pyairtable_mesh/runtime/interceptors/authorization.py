"""May the caller do this: the access table's row, answered by the permission service."""

from typing import Any

from pyairtable_mesh.runtime import access
from pyairtable_mesh.runtime.authorizer import Authorizer
from pyairtable_mesh.runtime.context import RequestContext
from pyairtable_mesh.runtime.errors import InvalidArgument, MeshError, NotFound, PermissionDenied
from pyairtable_mesh.runtime.interceptors.call import Call, Interceptor, Method, Proceed


def shape(method: Method, proceed: Proceed) -> Proceed:
    """Refuse a malformed resource field before anything is asked about it, so that it never reads as a denial."""
    rows = [row for row in method.row.ways() if row.field and row.kind in {"on", "own"}] if method.row else []
    if not rows:
        return proceed
    readers = [(row.field, row.kind == "on", access.reader(row.field)) for row in rows]

    async def run(call: Call) -> Any:
        request = await call.first()
        for field, required, read in readers:
            found = read(request) if request is not None else []
            named = [access.reference(where, value) for where, value in found if value or required]
            if required and not named:  # nothing to ask about must not read as "allowed"
                raise InvalidArgument.of_field(field, "name at least one resource", rule="resource.required")
            call.resources[field] = named
        return await proceed(call)

    return run


def authorize(authorizer: Authorizer, namespace: str) -> Interceptor:
    """Try the row's ways in their order; the last one's denial is what the caller gets. `namespace` is our own."""

    def intercept(method: Method, proceed: Proceed) -> Proceed:
        if method.row is None or method.row.kind == "public":
            return proceed
        ways = tuple(method.row.ways())

        async def run(call: Call) -> Any:
            denial: MeshError | None = None
            for way in ways:
                questions = access.questions(way, call.resources.get(way.field, ()), call.context, namespace)
                if questions is None:
                    continue
                denial = await _denial(authorizer, call.context, questions) if questions else None
                if denial is None:
                    return await proceed(call)
            raise denial or _not_for(method, call.context)

        return run

    return intercept


async def _denial(authorizer: Authorizer, caller: RequestContext, questions: list[access.Question]) -> MeshError | None:
    """None when all is allowed; else what to answer: NOT_FOUND for a resource that the caller may not even see."""
    answers = await authorizer.check(caller, questions)
    refused = [question for question, allowed in zip(questions, answers, strict=True) if not allowed]
    if not refused:
        return None
    resource, verb = refused[0]
    visible = verb != "read" and (await authorizer.check(caller, [(resource, "read")]))[0]
    if not visible and not resource.startswith("tenant:"):
        return NotFound(resource.partition(":")[0], resource)
    return PermissionDenied(
        f"{caller.actor.subject} may not {verb} {resource}; ExplainPermission says why",
        metadata={"resource": resource, "permission": verb},
    )


def _not_for(method: Method, caller: RequestContext) -> PermissionDenied:
    reason = "WORKLOAD_NOT_ALLOWED" if caller.actor.kind == "workload" else ""
    return PermissionDenied(f"{method.name} is not for {caller.actor.subject}", reason=reason)
