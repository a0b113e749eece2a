"""Questions to models that tenants bring.

Whoever has a token of the tenant may ask about itself; anything else in a space is for those who manage access in the
tenant, for a model of one's own has no rules yet that could say more.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pyairtable_mesh.permission import changelog, schema
from pyairtable_mesh.permission.domain import Resource, SpaceRelationship
from pyairtable_mesh.permission.platform import State
from pyairtable_mesh.permission.spaces import SpaceState, as_relationship
from pyairtable_mesh.permission.usecases.authority import RefusalsRecorded
from pyairtable_mesh.permission.usecases.checks import Question, Sight
from pyairtable_mesh.permission.usecases.consistency import NEAREST, Consistency, States, Tokens
from pyairtable_mesh.permission.usecases.lookups import Part, Span, parts
from pyairtable_mesh.permission.usecases.turns import answered
from pyairtable_mesh.runtime import auditing
from pyairtable_mesh.runtime.authorization import (
    Decision,
    RelationEngine,
    expand,
    explain,
    facts,
    lookup_resources,
    lookup_subjects,
)
from pyairtable_mesh.runtime.authorization.explanation import Explanation, Node
from pyairtable_mesh.runtime.authorization.lookup import Listing
from pyairtable_mesh.runtime.context import RequestContext
from pyairtable_mesh.runtime.decisions import DecisionLog, as_audited
from pyairtable_mesh.runtime.errors import MeshError, ResourceExhausted

_DEPTH = 10
_CANDIDATES_OF_A_PART = 2_000


@dataclass(frozen=True, slots=True)
class SpaceCircumstances:
    """What a question is asked under in a space."""

    contextual: Sequence[SpaceRelationship] = ()
    consistency: Consistency = NEAREST


class SpaceQuestions:
    """Answers from the states of model spaces; `platform` says who manages access."""

    def __init__(
        self,
        states: States[SpaceState],
        platform: States[State],
        tokens: Tokens,
        clock: Callable[[], datetime],
        log: DecisionLog,
    ) -> None:
        self._states = states
        self._platform = platform
        self._tokens = tokens
        self._clock = clock
        self._log = log

    async def check(
        self, caller: RequestContext, space: str, question: Question, given: SpaceCircumstances
    ) -> tuple[Decision, str]:
        """The answer, and the token of the state that gives it."""
        await self._require_askable(caller, [question], given)
        scope = changelog.scope_of(caller.tenant_id, space)
        async with self._states.seen(scope, given.consistency) as state:
            circumstances = self._given(given, question.context)
            decision = state.engine.check(_key(question, caller), circumstances)
            self._record(caller, space, state.engine, question, circumstances, decision)
        return decision, self._tokens.of(scope, decision.revision)

    async def batch(
        self, caller: RequestContext, space: str, questions: Sequence[Question], given: SpaceCircumstances
    ) -> tuple[list[Decision | MeshError], str]:
        """For each question the answer, or why there is none; all of one state, and its token."""
        await self._require_askable(caller, questions, given)
        scope, audited = changelog.scope_of(caller.tenant_id, space), list[auditing.Decision]()

        def asking(state: SpaceState) -> Callable[[Question], Decision | MeshError]:
            def answer(question: Question) -> Decision | MeshError:
                key, circumstances = _key(question, caller), self._given(given, question.context)
                (found,) = state.engine.batch([key], circumstances)
                if isinstance(found, Decision) and self._log.wants(allowed=found.allowed):
                    audited.append(_recorded(state.engine, key, found, circumstances))
                return found

            return answer

        seen = self._states.seen(scope, given.consistency)
        try:
            found, revision = await answered(self._states, scope, seen, questions, asking)
        finally:
            self._log.take(caller, audited, f"modelSpaces/{space}")
        return found, self._tokens.of(scope, revision)

    def _record(
        self,
        caller: RequestContext,
        space: str,
        engine: RelationEngine,
        question: Question,
        given: facts.Circumstances,
        decision: Decision,
    ) -> None:
        if self._log.wants(allowed=decision.allowed):
            made = _recorded(engine, _key(question, caller), decision, given)
            self._log.take(caller, [made], f"modelSpaces/{space}")

    async def explain(
        self, caller: RequestContext, space: str, question: Question, given: SpaceCircumstances
    ) -> tuple[Explanation, str]:
        """The answer with its reasons, for those who manage access."""
        await self._require_manager(caller)
        scope = changelog.scope_of(caller.tenant_id, space)
        async with self._states.seen(scope, given.consistency) as state:
            circumstances = self._given(given, question.context)
            found = explain(state.engine, _key(question, caller), circumstances)
            self._record(caller, space, state.engine, question, circumstances, found.decision)
        return found, self._tokens.of(scope, found.decision.revision)

    async def expand(
        self, caller: RequestContext, space: str, asked: Question, depth: int, consistency: Consistency
    ) -> tuple[Node, str]:
        """The tree of subjects behind a relation, for those who manage access."""
        await self._require_manager(caller)
        scope = changelog.scope_of(caller.tenant_id, space)
        async with self._states.seen(scope, consistency) as state:
            root = expand(state.engine, asked.resource, asked.verb, self._clock().timestamp(), depth or _DEPTH)
            return root, self._tokens.of(scope, state.revision)

    async def resources(
        self,
        caller: RequestContext,
        space: str,
        resource_type: str,
        asked: Question,
        given: SpaceCircumstances,
        span: Span,
    ) -> AsyncIterator[Part]:
        """The objects of a type that the subject of `asked` stands in its relation to."""
        await self._require_askable(caller, [asked], given)
        subject = asked.subject or caller.user()
        circumstances = self._given(given, asked.context)

        def read(state: SpaceState, after: str, limit: int) -> Listing:
            return lookup_resources(
                state.engine,
                resource_type,
                asked.verb,
                subject,
                circumstances,
                after=after,
                limit=limit,
                budget=_CANDIDATES_OF_A_PART,
            )

        async for each in self._parts(caller, space, given, span, read):
            yield each

    async def subjects(
        self,
        caller: RequestContext,
        space: str,
        asked: Question,
        kind: tuple[str, str],
        given: SpaceCircumstances,
        span: Span,
    ) -> AsyncIterator[Part]:
        """The subjects of a type and relation that stand in the relation of `asked`, for those who manage access."""
        await self._require_manager(caller)
        circumstances = self._given(given, asked.context)
        subject_type, relation = kind

        def read(state: SpaceState, after: str, limit: int) -> Listing:
            return lookup_subjects(
                state.engine,
                asked.resource,
                asked.verb,
                subject_type,
                circumstances,
                subject_relation=relation,
                after=after,
                limit=limit,
            )

        async for each in self._parts(caller, space, given, span, read):
            yield each

    def _parts(
        self,
        caller: RequestContext,
        space: str,
        given: SpaceCircumstances,
        span: Span,
        read: Callable[[SpaceState, str, int], Listing],
    ) -> AsyncIterator[Part]:
        scope = changelog.scope_of(caller.tenant_id, space)
        return parts(self._states, self._tokens, scope, given.consistency, span, read)

    def _given(self, given: SpaceCircumstances, context: Mapping[str, Any]) -> facts.Circumstances:
        return facts.Circumstances(self._clock().timestamp(), context, tuple(map(as_relationship, given.contextual)))

    async def _require_askable(
        self, caller: RequestContext, questions: Iterable[Question], given: SpaceCircumstances
    ) -> None:
        me = caller.user()
        if given.contextual or any(each.subject not in {"", me} for each in questions):
            await self._require_manager(caller)

    async def _require_manager(self, caller: RequestContext) -> None:
        async with self._platform.seen(caller.tenant_id, NEAREST) as state:
            tenant = Resource(schema.TENANT, caller.tenant_id)
            with RefusalsRecorded(self._log, caller):
                Sight(state, caller, self._clock(), ()).require(tenant, schema.MANAGE_ACCESS)


def _recorded(
    engine: RelationEngine, key: tuple[str, str, str], decision: Decision, given: facts.Circumstances
) -> auditing.Decision:
    return as_audited(key, decision, _grant(engine, key, given) if decision.allowed else "")


def _grant(engine: RelationEngine, key: tuple[str, str, str], given: facts.Circumstances) -> str:
    """The relationship nearest to the resource that an answer came through; empty where that takes too long to say."""
    try:
        path = explain(engine, key, given).path
    except ResourceExhausted:
        return ""
    return str(path[-1]) if path else ""


def _key(question: Question, caller: RequestContext) -> tuple[str, str, str]:
    return question.resource, question.verb, question.subject or caller.user()
