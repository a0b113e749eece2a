"""Questions about permissions: check, batch, explain, and all that a subject may do on a resource.

Who asks about itself needs nothing; who asks about another needs `manage_access` there. A contextual membership would
be a way around that, to ask what a group may do, and so is for those who manage groups. What a caller may ask is
decided by stored facts alone, and never by what it assumes.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from pyairtable_mesh.permission import schema
from pyairtable_mesh.permission.domain import Relationship, Resource, Subject
from pyairtable_mesh.permission.platform import State, as_relationship, require_context
from pyairtable_mesh.permission.usecases.authority import DeniedError, HiddenError, RefusalsRecorded, denial
from pyairtable_mesh.permission.usecases.consistency import NEAREST, Consistency, States, Tokens
from pyairtable_mesh.permission.usecases.turns import answered
from pyairtable_mesh.runtime import auditing
from pyairtable_mesh.runtime.authorization import Decision, explain_scoped, facts
from pyairtable_mesh.runtime.authorization.scope_explanation import ScopedExplanation
from pyairtable_mesh.runtime.context import RequestContext
from pyairtable_mesh.runtime.decisions import DecisionLog, recorded
from pyairtable_mesh.runtime.errors import MeshError, ResourceExhausted

_MOST_FIELDS = 1_000
_NO_CONTEXT: Mapping[str, Any] = {}


class Question(NamedTuple):
    """Whether a subject (empty: the caller) holds a verb at a resource, as it came, with values for conditions."""

    resource: str
    verb: str
    subject: str = ""
    context: Mapping[str, Any] = _NO_CONTEXT


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a question is asked under: relationships that count as stored, and the state that must be seen."""

    contextual: Sequence[Relationship] = ()
    consistency: Consistency = NEAREST

    def validate(self, now: datetime) -> None:
        """`InvalidArgument` for a relationship that could not be stored."""
        for index, each in enumerate(self.contextual):
            each.validate(f"contextual_relationships[{index}]", now)
            require_context(each, f"contextual_relationships[{index}].condition")


PLAIN = Circumstances()
"""Those of nearly every question."""


@dataclass(frozen=True, slots=True)
class Effective:
    """All that a subject may do: verbs at the resource, permissions below it, and fields that differ from that.

    `conditional` has what missing context decides, as ``type.verb`` with the names of the context.
    """

    verbs: Sequence[str]
    below: Sequence[str]
    conditional: Mapping[str, frozenset[str]]
    fields: Mapping[str, "Effective"]


@dataclass(frozen=True, slots=True)
class Asked:
    """A question that the schema has."""

    resource: Resource
    verb: str
    subject: str

    @classmethod
    def of(cls, question: Question, caller: str) -> "Asked":
        """`InvalidArgument` for a question that it does not have."""
        resource = Resource.parse(question.resource)
        resource.permission(question.verb)
        return cls(resource, question.verb, str(Subject.parse(question.subject)) if question.subject else caller)

    @property
    def key(self) -> tuple[str, str, str]:
        """The question as the engine takes it."""
        return str(self.resource), self.verb, self.subject


class Sight:
    """One state as a caller may ask it: at a moment, and with what the caller assumes."""

    def __init__(self, state: State, asking: RequestContext, now: datetime, contextual: Sequence[Relationship]) -> None:
        self.state = state
        self.caller = asking.user()
        self.now = now.timestamp()
        self._assumed = tuple(map(as_relationship, contextual)) if contextual else ()
        self._engine, self._known = state.engine, state.engine.graph.names.handles
        self._stored = facts.Circumstances(self.now)
        self._plain = self.given(_NO_CONTEXT) if contextual else self._stored
        if any(each.is_membership for each in contextual):
            tenant = Resource.parse(state.engine.graph.names.texts[state.engine.root])
            self.require(tenant, schema.MANAGE_GROUPS)

    def given(self, context: Mapping[str, Any]) -> facts.Circumstances:
        """What a question is asked under."""
        return facts.Circumstances(self.now, context, self._assumed)

    def decide(self, question: Question) -> Decision:
        """The answer; errors as for a check."""
        resource, verb, subject, context = question
        given = self.given(context) if context else self._plain
        # Names that the engine knows were validated when they were stored.
        if resource in self._known and (not subject or subject in self._known) and _is_object(resource):
            if not subject or subject == self.caller:
                return self._engine.check((resource, verb, self.caller), given)
            self._engine.verb(self._known[resource], verb)
            if self._engine.check((resource, schema.MANAGE_ACCESS, self.caller), self._stored).allowed:
                return self._engine.check((resource, verb, subject), given)
        asked = Asked.of(question, self.caller)
        self.require_askable(asked)
        return self._engine.check(asked.key, given)

    def record(self, question: Question, decision: Decision) -> auditing.Decision:
        """The decision as the audit log takes it, with the grant that it came through."""
        resource, verb, subject, context = question
        given = self._plain if not context else self.given(context)
        return recorded(self.state.engine, (resource, verb, subject or self.caller), decision, given)

    def require_askable(self, asked: Asked) -> None:
        """PermissionDenied or NotFound for a question about another by one who does not manage the resource."""
        if asked.subject != self.caller:
            self.require(asked.resource, schema.MANAGE_ACCESS)

    def require(self, resource: Resource, verb: str) -> None:
        """PermissionDenied or NotFound where the caller does not hold a verb."""
        if not self.holds(resource, verb):
            visible = self.holds(resource, schema.READ)
            raise denial(self.caller, resource, verb, self.state.revision, visible=visible)

    def holds(self, resource: Resource, verb: str) -> bool:
        """Whether the caller itself holds a verb, by what is stored."""
        return self.state.engine.check((str(resource), verb, self.caller), self._stored).allowed

    def sees_around(self, resource: Resource) -> bool:
        """Whether the caller may be told what is above a resource."""
        return any(self.holds(resource, verb) for verb in (schema.READ, schema.MANAGE_ACCESS))


class Checks:
    """Answers from one state each; a subject other than the caller is for those who manage access there."""

    def __init__(self, states: States[State], tokens: Tokens, clock: Callable[[], datetime], log: DecisionLog) -> None:
        self._states = states
        self._tokens = tokens
        self._clock = clock
        self._log = log

    async def check(self, caller: RequestContext, question: Question, given: Circumstances) -> tuple[Decision, str]:
        """The answer, and the token of the state that gives it."""
        state = self._states.at_hand(caller.tenant_id, given.consistency)
        if state is not None:  # as nearly always: for itself, a context to enter costs as much as the decision
            decision = self._decided(state, caller, question, given)
        else:
            async with self._states.seen(caller.tenant_id, given.consistency) as state:
                decision = self._decided(state, caller, question, given)
        return decision, self._tokens.of(caller.tenant_id, decision.revision)

    def _decided(self, state: State, caller: RequestContext, question: Question, given: Circumstances) -> Decision:
        with RefusalsRecorded(self._log, caller):
            sight = self._sight(state, caller, given)
            decision = sight.decide(question)
        self._record(caller, sight, question, decision)
        return decision

    def token(self, caller: RequestContext, revision: int) -> str:
        """The token of a state."""
        return self._tokens.of(caller.tenant_id, revision)

    async def batch(
        self, caller: RequestContext, questions: Sequence[Question], given: Circumstances
    ) -> tuple[list[Decision | MeshError], str]:
        """For each question the answer, or why there is none; all of one state, and its token."""
        audited = list[auditing.Decision]()

        def asking(state: State) -> Callable[[Question], Decision | MeshError]:
            sight = self._sight(state, caller, given)

            def answer(question: Question) -> Decision | MeshError:
                try:
                    found = sight.decide(question)
                except (DeniedError, HiddenError) as refusal:
                    audited.append(refusal.decision)
                    return refusal
                except MeshError as error:
                    return error
                if self._log.wants(allowed=found.allowed):
                    audited.append(sight.record(question, found))
                return found

            return answer

        try:
            with RefusalsRecorded(self._log, caller):
                seen = self._seen(caller, given)
                found, revision = await answered(self._states, caller.tenant_id, seen, questions, asking)
        finally:
            self._log.take(caller, audited)
        return found, self._tokens.of(caller.tenant_id, revision)

    def _record(self, caller: RequestContext, sight: Sight, question: Question, decision: Decision) -> None:
        if self._log.wants(allowed=decision.allowed):
            self._log.take(caller, [sight.record(question, decision)])

    async def explain(
        self, caller: RequestContext, question: Question, given: Circumstances
    ) -> tuple[ScopedExplanation, str]:
        """The answer with its reasons. What is above a resource is told to those who may read or manage it."""
        asked = Asked.of(question, caller.user())
        with RefusalsRecorded(self._log, caller):
            async with self._seen(caller, given) as state:
                sight = self._sight(state, caller, given)
                sight.require_askable(asked)
                around = sight.sees_around(asked.resource)
                found = explain_scoped(state.engine, asked.key, sight.given(question.context), surroundings=around)
                self._record(caller, sight, question, found.decision)
        return found, self._tokens.of(caller.tenant_id, found.decision.revision)

    async def effective(
        self,
        caller: RequestContext,
        resource: str,
        subject: str,
        given: Circumstances,
        context: Mapping[str, Any] = _NO_CONTEXT,
    ) -> tuple[Effective, str]:
        """All that the subject may do. ResourceExhausted when too many fields have permissions of their own."""
        asked = Asked.of(Question(resource, schema.READ, subject), caller.user())
        with RefusalsRecorded(self._log, caller):
            async with self._seen(caller, given) as state:
                sight = self._sight(state, caller, given)
                sight.require_askable(asked)
                revision, fields = state.revision, _special_fields(state, asked.resource)

                def held(place: str, masks: Mapping[str, Effective]) -> Effective:
                    sure, unsure = state.engine.effective(place, asked.subject, sight.given(context))
                    return _effective(place.partition(":")[0], sure, unsure, masks)

                found = held(str(asked.resource), {each: held(each, {}) for each in fields})
        return found, self._tokens.of(caller.tenant_id, revision)

    def _seen(self, caller: RequestContext, given: Circumstances) -> AbstractAsyncContextManager[State]:
        at_hand = self._states.at_hand(caller.tenant_id, given.consistency)
        if at_hand is not None:
            return nullcontext(at_hand)
        return self._states.seen(caller.tenant_id, given.consistency)

    def _sight(self, state: State, caller: RequestContext, given: Circumstances) -> Sight:
        now = self._clock()
        given.validate(now)
        return Sight(state, caller, now, given.contextual)


def _is_object(text: str) -> bool:
    return "#" not in text and text[-1] != schema.WILDCARD


def _special_fields(state: State, resource: Resource) -> list[str]:
    if resource.type != "table":
        return []
    found = state.engine.exceptions(str(resource), "field")
    if len(found) > _MOST_FIELDS:
        words = f"more than {_MOST_FIELDS} fields of {resource} have permissions of their own"
        raise ResourceExhausted(words, reason="EVALUATION_LIMIT", metadata={"path": str(resource)})
    return found


def _effective(
    resource_type: str, sure: Iterable[str], unsure: Mapping[str, frozenset[str]], masks: Mapping[str, Effective]
) -> Effective:
    """What is held, as far as it is about the resource's type and those below it."""
    at_or_below = schema.descendants(resource_type)
    kinds = [(each, *each.split(".", 1)) for each in sure]
    return Effective(
        sorted(verb for _, kind, verb in kinds if kind == resource_type),
        sorted(each for each, kind, _ in kinds if kind in at_or_below and kind != resource_type),
        {each: unsure[each] for each in sorted(unsure) if each.partition(".")[0] in at_or_below},
        masks,
    )
