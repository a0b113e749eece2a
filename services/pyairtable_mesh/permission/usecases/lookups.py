"""Lists of what a subject may act on, and of who may act on a resource; and the tree behind a permission.

A list is of one revision, however long it takes to send: parts are read one by one, with a turn for others in between,
and each from the state that the list began with. So is what resumes it, for as long as that state is kept.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from pyairtable_mesh.permission import schema
from pyairtable_mesh.permission.domain import Resource, Subject
from pyairtable_mesh.permission.held import S
from pyairtable_mesh.permission.platform import State
from pyairtable_mesh.permission.usecases.authority import RefusalsRecorded
from pyairtable_mesh.permission.usecases.checks import Circumstances, Question, Sight
from pyairtable_mesh.permission.usecases.consistency import Consistency, States, Tokens
from pyairtable_mesh.runtime.authorization import Found, Listing, expand_scoped
from pyairtable_mesh.runtime.authorization.explanation import Node
from pyairtable_mesh.runtime.context import RequestContext
from pyairtable_mesh.runtime.decisions import DecisionLog
from pyairtable_mesh.runtime.errors import InvalidArgument

_ENTRIES_OF_THE_FIRST_PART = 100
"""Few, so that there is something to show soon."""
_ENTRIES_OF_A_PART = 500
_CANDIDATES_OF_A_PART = 5_000
_DEPTH = 10


@dataclass(frozen=True, slots=True)
class Place:
    """Where a list was left off: its revision, the last entry that was sent and how many there were up to it."""

    revision: int
    after: str = ""
    count: int = 0


@dataclass(frozen=True, slots=True)
class Part:
    """Some entries of a list, and the `place` behind them. `complete` is None as long as more follow; then it says
    whether that was all.
    """

    entries: Sequence[Found]
    place: Place
    token: str
    complete: bool | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """Which part of a list is wanted: from where on (None: the beginning), and at most how many (0: all)."""

    begin: Place | None = None
    limit: int = 0


async def parts(
    states: States[S],
    tokens: Tokens,
    scope: str,
    consistency: Consistency,
    span: Span,
    read: Callable[[S, str, int], Listing],
) -> AsyncIterator[Part]:
    """A list in parts. `read` gives a part of it from a state: behind an entry, at most so many entries."""
    place, sent, most = span.begin, 0, _ENTRIES_OF_THE_FIRST_PART
    while True:
        seen = states.seen(scope, consistency) if place is None else states.at(scope, place.revision)
        async with seen as state:
            place = place or Place(state.revision)
            found = read(state, place.after, min(most, span.limit - sent) if span.limit else most)
        sent += len(found.entries)
        after = found.resume or (found.entries[-1].reference if found.entries else place.after)
        place = Place(place.revision, after, place.count + len(found.entries))
        token = tokens.of(scope, place.revision)
        if found.complete or (span.limit and sent == span.limit):
            yield Part(found.entries, place, token, complete=found.complete)
            return
        if found.entries:
            yield Part(found.entries, place, token)
            most = _ENTRIES_OF_A_PART
        await asyncio.sleep(0)


class Lookups:
    """Lists for the caller, and for others to those who manage access."""

    def __init__(self, states: States[State], tokens: Tokens, clock: Callable[[], datetime], log: DecisionLog) -> None:
        self._states = states
        self._tokens = tokens
        self._clock = clock
        self._log = log

    def resources(
        self, caller: RequestContext, resource_type: str, asked: Question, given: Circumstances, span: Span
    ) -> AsyncIterator[Part]:
        """The resources of a type on which the subject of `asked` holds its verb."""
        described = schema.TYPES.get(resource_type)
        if described is None:
            words = f"there is no type {resource_type!r}"
            raise InvalidArgument.of_field("resource_type", words, reason="UNKNOWN_TYPE")
        if asked.verb not in described.verbs:
            words = f"a {resource_type} has no {asked.verb!r}"
            raise InvalidArgument.of_field("permission", words, reason="UNKNOWN_PERMISSION")
        subject = str(Subject.parse(asked.subject)) if asked.subject else caller.user()
        tenant = Resource(schema.TENANT, caller.tenant_id)
        now = self._clock()
        given.validate(now)

        def read(state: State, after: str, limit: int) -> Listing:
            with RefusalsRecorded(self._log, caller):
                sight = Sight(state, caller, now, given.contextual)
                if subject != sight.caller:
                    sight.require(tenant, schema.MANAGE_ACCESS)
            return state.lookup.resources(
                resource_type,
                asked.verb,
                subject,
                sight.given(asked.context),
                after=after,
                limit=limit,
                budget=_CANDIDATES_OF_A_PART,
            )

        return parts(self._states, self._tokens, caller.tenant_id, given.consistency, span, read)

    def subjects(
        self,
        caller: RequestContext,
        asked: Question,
        subject_type: str,
        subject_relation: str,
        given: Circumstances,
        span: Span,
    ) -> AsyncIterator[Part]:
        """The subjects of a type, or groups' members, that hold the verb of `asked` on its resource."""
        resource = Resource.parse(asked.resource)
        resource.permission(asked.verb)
        if subject_type not in schema.TYPES:
            words = f"there is no type {subject_type!r}"
            raise InvalidArgument.of_field("subject_type", words, reason="UNKNOWN_TYPE")
        if subject_relation and (subject_type, subject_relation) != (schema.GROUP, schema.MEMBER):
            words = f"a {subject_type} has no {subject_relation!r}: only groups have members"
            raise InvalidArgument.of_field("subject_relation", words, reason="UNKNOWN_RELATION")
        now = self._clock()
        given.validate(now)

        def read(state: State, after: str, limit: int) -> Listing:
            with RefusalsRecorded(self._log, caller):
                sight = Sight(state, caller, now, given.contextual)
                sight.require(resource, schema.MANAGE_ACCESS)
            return state.lookup.subjects(
                str(resource),
                asked.verb,
                subject_type,
                sight.given(asked.context),
                usersets=bool(subject_relation),
                after=after,
                limit=limit,
            )

        return parts(self._states, self._tokens, caller.tenant_id, given.consistency, span, read)

    async def expand(
        self, caller: RequestContext, asked: Question, depth: int, consistency: Consistency
    ) -> tuple[Node, str]:
        """The tree of subjects that hold a verb on a resource, and the token of the state."""
        resource = Resource.parse(asked.resource)
        resource.permission(asked.verb)
        async with self._states.seen(caller.tenant_id, consistency) as state:
            sight = Sight(state, caller, self._clock(), ())
            with RefusalsRecorded(self._log, caller):
                sight.require(resource, schema.MANAGE_ACCESS)
            root = expand_scoped(state.engine, str(resource), asked.verb, sight.now, depth or _DEPTH)
            return root, self._tokens.of(caller.tenant_id, state.revision)
