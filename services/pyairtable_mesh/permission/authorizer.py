"""Answers the authorization interceptor of this very process, where other services ask over the mesh."""

from collections.abc import Sequence

from pyairtable_mesh.permission.usecases.checks import Checks, Circumstances, Question
from pyairtable_mesh.permission.usecases.consistency import Consistency
from pyairtable_mesh.runtime import access
from pyairtable_mesh.runtime.authorization import Decision
from pyairtable_mesh.runtime.authorizer import Undecided
from pyairtable_mesh.runtime.context import RequestContext
from pyairtable_mesh.runtime.errors import MeshError


class LocalAuthorizer:
    """`runtime.Authorizer` over the use cases."""

    def __init__(self, checks: Checks) -> None:
        self._checks = checks

    async def check(self, caller: RequestContext, questions: Sequence[access.Question]) -> Sequence[bool | Undecided]:
        """One answer per question; raises the first error, so that the caller fails closed."""
        asked = [Question(resource, verb) for resource, verb in questions]
        given = Circumstances(consistency=Consistency(caller.consistency_token))
        results, _ = await self._checks.batch(caller, asked, given)
        for result in results:
            if isinstance(result, MeshError):
                raise result
        return [_answer(result) for result in results if isinstance(result, Decision)]


def _answer(decision: Decision) -> bool | Undecided:
    return Undecided(decision.missing) if decision.missing else decision.allowed
