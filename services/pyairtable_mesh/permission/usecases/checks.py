"""Questions about permissions: check, batch, explain, and all that a subject may do on a resource.

Who asks about itself needs nothing; who asks about another needs `manage_access` there. A contextual membership would
be a way around that, to ask what a group may do, and so is for those who manage groups.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TypeVar

from pyairtable_mesh.permission import schema
from pyairtable_mesh.permission.domain import Relationship, Resource, Subject
from pyairtable_mesh.permission.evaluator import Answers
from pyairtable_mesh.permission.explanation import Explanation, explain
from pyairtable_mesh.permission.store import View
from pyairtable_mesh.permission.usecases.authority import Authority, denial
from pyairtable_mesh.permission.usecases.consistency import NOW, Consistency, Tokens
from pyairtable_mesh.runtime.context import RequestContext
from pyairtable_mesh.runtime.database import Database
from pyairtable_mesh.runtime.errors import MeshError, ResourceExhausted

T = TypeVar("T")
_ITEMS_BEFORE_YIELD = 1_000
_MOST_FIELDS = 1_000


@dataclass(frozen=True, slots=True)
class Question:
    """Whether a subject (empty: the caller) holds a verb at a resource, as it came."""

    resource: str
    verb: str
    subject: str = ""


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a question is asked under: relationships that count as stored, and the state that must be seen."""

    contextual: Sequence[Relationship] = ()
    consistency: Consistency = NOW

    def validate(self, now: datetime) -> None:
        """`InvalidArgument` for a relationship that could not be stored."""
        for index, each in enumerate(self.contextual):
            each.validate(f"contextual_relationships[{index}]", now)


@dataclass(frozen=True, slots=True)
class Effective:
    """All that a subject may do: verbs at the resource, permissions below it, and fields that differ from that."""

    verbs: Sequence[str]
    below: Sequence[str]
    fields: Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class _Asked:
    resource: Resource
    verb: str
    subject: str

    @classmethod
    def of(cls, question: Question, caller: str) -> "_Asked":
        resource = Resource.parse(question.resource)
        resource.permission(question.verb)
        return cls(resource, question.verb, str(Subject.parse(question.subject)) if question.subject else caller)


@dataclass(frozen=True, slots=True)
class _Sight:
    """Answers to what was asked, and those of stored facts alone: what the caller may ask is never hypothetical."""

    answers: Answers
    stored: Answers
    caller: str

    def decide(self, asked: _Asked) -> bool:
        self.require_askable(asked)
        return self.answers.allowed(asked.subject, str(asked.resource), asked.resource.permission(asked.verb))

    def require_askable(self, asked: _Asked) -> None:
        manages = asked.resource.permission(schema.MANAGE_ACCESS)
        if asked.subject != self.caller and not self.stored.allowed(self.caller, str(asked.resource), manages):
            raise denial(self.stored, self.caller, asked.resource, schema.MANAGE_ACCESS)

    def sees_around(self, resource: Resource) -> bool:
        telling = {resource.permission(schema.READ), resource.permission(schema.MANAGE_ACCESS)}
        return bool(telling & self.stored.effective(self.caller, str(resource)))


class Checks:
    """Answers from one snapshot each; a subject other than the caller is for those who manage access there."""

    def __init__(self, database: Database, authority: Authority, tokens: Tokens, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._authority = authority
        self._tokens = tokens
        self._clock = clock

    async def check(self, caller: RequestContext, question: Question, given: Circumstances) -> tuple[bool, str]:
        """Whether it is allowed, and the token of the state that says so."""
        asked = _Asked.of(question, caller.user())
        async with self._view(caller) as view:
            sight = await self._sight(view, caller.user(), [asked], given)
        return sight.decide(asked), self._token(view, sight)

    async def batch(
        self, caller: RequestContext, questions: Sequence[Question], given: Circumstances
    ) -> tuple[list[bool | MeshError], str]:
        """For each question whether it is allowed, or why it cannot be said; and the token of the state."""
        parsed = await _spread(_attempt(partial(_Asked.of, question, caller.user())) for question in questions)
        async with self._view(caller) as view:
            good = [each for each in parsed if isinstance(each, _Asked)]
            sight = await self._sight(view, caller.user(), good, given)
        answers = (_attempt(partial(sight.decide, each)) if isinstance(each, _Asked) else each for each in parsed)
        return await _spread(answers), self._token(view, sight)

    async def explain(
        self, caller: RequestContext, question: Question, given: Circumstances
    ) -> tuple[Explanation, str]:
        """The answer with its reasons. What is above a resource is told to those who may read or manage it."""
        asked = _Asked.of(question, caller.user())
        async with self._view(caller) as view:
            sight = await self._sight(view, caller.user(), [asked], given)
        sight.require_askable(asked)
        around = sight.sees_around(asked.resource)
        explanation = explain(sight.answers, asked.subject, asked.resource, asked.verb, surroundings=around)
        return explanation, self._token(view, sight)

    async def effective(
        self, caller: RequestContext, resource: str, subject: str, given: Circumstances
    ) -> tuple[Effective, str]:
        """All that the subject may do. ResourceExhausted when too many fields have permissions of their own."""
        asked = _Asked.of(Question(resource, schema.READ, subject), caller.user())
        async with self._view(caller) as view:
            fields = await _special_fields(view, asked.resource)
            questions = [asked, *(_Asked(field, schema.READ, asked.subject) for field in fields)]
            sight = await self._sight(view, caller.user(), questions, given)
        sight.require_askable(asked)
        held = sight.answers.effective(asked.subject, str(asked.resource))
        masks = {str(each): _verbs(sight.answers.effective(asked.subject, str(each)), each.type) for each in fields}
        below = schema.descendants(asked.resource.type) - {asked.resource.type}
        inherited = sorted(permission for permission in held if permission.partition(".")[0] in below)
        return Effective(_verbs(held, asked.resource.type), inherited, masks), self._token(view, sight)

    @asynccontextmanager
    async def _view(self, caller: RequestContext) -> AsyncIterator[View]:
        async with self._database.read(caller) as connection:
            yield View(connection, caller.tenant_id, self._clock())

    async def _sight(self, view: View, caller: str, asked: Sequence[_Asked], given: Circumstances) -> _Sight:
        resources = {each.resource for each in asked}
        subjects = {caller, *(each.subject for each in asked)}
        stored = answers = await self._authority.answers(view, resources, subjects)
        self._tokens.require(given.consistency, view.tenant_id, stored.revision)
        if given.contextual:
            given.validate(view.now)
            if any(each.is_membership for each in given.contextual):
                tenant = Resource(schema.TENANT, view.tenant_id)
                await self._authority.require(view, caller, [(tenant, schema.MANAGE_GROUPS)])
            answers = await self._authority.answers(view, resources, subjects, given.contextual)
        return _Sight(answers, stored, caller)

    def _token(self, view: View, sight: _Sight) -> str:
        return self._tokens.of(view.tenant_id, sight.stored.revision)


async def _special_fields(view: View, resource: Resource) -> list[Resource]:
    if resource.type != "table":
        return []
    found = await view.children_with_own(str(resource), "table", "field", _MOST_FIELDS + 1)
    if len(found) > _MOST_FIELDS:
        words = f"more than {_MOST_FIELDS} fields of {resource} have permissions of their own"
        raise ResourceExhausted(words, reason="EVALUATION_LIMIT", metadata={"path": str(resource)})
    return [Resource.parse(each) for each in found]


def _verbs(held: Iterable[str], resource_type: str) -> list[str]:
    return sorted(verb for kind, _, verb in (each.partition(".") for each in held) if kind == resource_type)


def _attempt(answer: Callable[[], T]) -> T | MeshError:
    try:
        return answer()
    except MeshError as error:
        return error


async def _spread(work: Iterable[T]) -> list[T]:
    """The results of much work, with a turn for others in between."""
    done: list[T] = []
    for each in work:
        done.append(each)
        if len(done) % _ITEMS_BEFORE_YIELD == 0:
            await asyncio.sleep(0)
    return done
