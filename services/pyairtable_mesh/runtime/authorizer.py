"""Asks the permission service, for the authorization interceptor of every other service.

`replica/` stands in front of it: it answers what it can in process, and asks here for the rest.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pyairtable.permission.v1 import permission_pb2, permission_pb2_grpc
from pyairtable_mesh.runtime.access import Question
from pyairtable_mesh.runtime.context import RequestContext
from pyairtable_mesh.runtime.errors import Unavailable


@dataclass(frozen=True, slots=True)
class Undecided:
    """No permission, because nobody gave the values that it depends on. False, as any other denial."""

    missing: frozenset[str]

    def __bool__(self) -> bool:
        return False


Answer = bool | Undecided


class Authorizer(Protocol):
    """Answers whether the caller has each (resource, verb)."""

    async def check(self, caller: RequestContext, questions: Sequence[Question]) -> Sequence[Answer]:
        """One answer per question, in their order; raises where no answer can be had, so that callers fail closed."""
        ...


class PeerAuthorizer:
    """Asks over the mesh, with the caller's own token: asking about oneself needs no permission."""

    def __init__(self, stub: permission_pb2_grpc.PermissionServiceStub) -> None:
        self._stub = stub

    async def check(self, caller: RequestContext, questions: Sequence[Question]) -> Sequence[Answer]:
        """One BatchCheckPermissions of a state as fresh as the caller's consistency token; errors as for `ask`."""
        allowed, _ = await self.ask(questions, caller.consistency_token)
        return allowed

    async def ask(self, questions: Sequence[Question], token: str) -> tuple[list[Answer], str]:
        """The answers of a state that is at least as fresh as a token, and that state's own token.

        `Unavailable` when an item could not be decided, InvalidArgument for a token that is not the tenant's.
        """
        items = [permission_pb2.CheckItem(resource=resource, permission=verb) for resource, verb in questions]
        request = permission_pb2.BatchCheckPermissionsRequest(items=items)
        if token:
            request.consistency.at_least_as_fresh = token
        answer = await self._stub.BatchCheckPermissions(request)
        if len(answer.results) != len(items) or any(result.HasField("error") for result in answer.results):
            raise Unavailable("the permission service could not decide", reason="DEPENDENCY_UNAVAILABLE")
        return [_answer(each.decision) for each in answer.results], answer.consistency_token


def _answer(decision: permission_pb2.Decision) -> Answer:
    if decision.result == permission_pb2.Decision.RESULT_CONDITIONAL:
        return Undecided(frozenset(decision.missing_context))
    return decision.result == permission_pb2.Decision.RESULT_ALLOWED
