"""Who may do what to permissions themselves: the rules of permission.md.

A change is decided by the state that it begins from, and by no older one. This process's engine answers where it is at
that very revision, which nobody can move while the change has its tenant's turn; else the evaluator reads the rows.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from pyairtable_mesh.permission import changelog, domain, schema
from pyairtable_mesh.permission.domain import Relationship, Resource
from pyairtable_mesh.permission.engines import Engines
from pyairtable_mesh.permission.evaluator import Answers, Reads
from pyairtable_mesh.permission.platform import State, as_relationship
from pyairtable_mesh.permission.store import Change, View
from pyairtable_mesh.runtime import auditing
from pyairtable_mesh.runtime.authorization import Circumstances, ScopedEngine
from pyairtable_mesh.runtime.context import RequestContext
from pyairtable_mesh.runtime.decisions import DecisionLog, grant_behind
from pyairtable_mesh.runtime.errors import NotFound, PermissionDenied

_MOST_PENDING = 20
"""How many links an engine is asked to assume; with more the rows are quicker."""
Need = tuple[Resource, str]
"""A resource and the verb that is needed there."""


class Evaluator(Protocol):
    """Answers about permissions; the naive one reads the facts in the view of the change itself."""

    async def answers(
        self,
        reads: Reads,
        tenant_id: str,
        resources: Collection[str],
        subjects: Collection[str],
        contextual: Sequence[Relationship] = (),
    ) -> Answers:
        """Answers about each of `subjects` at each of `resources`; `contextual` count as stored."""
        ...


class Grants(Protocol):
    """What subjects hold, of which refusals are made: `Answers` from rows, or `_FromEngine`."""

    def allowed(self, subject: str, resource: str, permission: str) -> bool:
        """Whether the subject holds ``type.verb`` at the resource."""
        ...

    def effective(self, subject: str, resource: str) -> frozenset[str]:
        """Every permission that the subject holds at the resource or below it."""
        ...

    def grant_of(self, subject: str, resource: str, permission: str) -> str:
        """The name of a role binding that gives the subject a permission; empty where it does not hold it."""
        ...

    @property
    def revision(self) -> int:
        """The revision that it is read at."""
        ...


@dataclass(frozen=True, slots=True)
class _FromEngine:
    """`Grants` of an engine's state at a moment."""

    engine: ScopedEngine
    given: Circumstances

    def allowed(self, subject: str, resource: str, permission: str) -> bool:
        return self.engine.check((resource, permission.partition(".")[2], subject), self.given).allowed

    def effective(self, subject: str, resource: str) -> frozenset[str]:
        return frozenset(self.engine.effective(resource, subject, self.given)[0])

    @property
    def revision(self) -> int:
        return self.engine.revision

    def grant_of(self, subject: str, resource: str, permission: str) -> str:
        return grant_behind(self.engine, (resource, permission.partition(".")[2], subject), self.given)


class DeniedError(PermissionDenied):
    """A denial to somebody who may know of the resource; `decision` is what the audit log gets."""

    decision: auditing.Decision


class HiddenError(NotFound):
    """A denial to somebody who may not know that the resource exists; `decision` is what the audit log gets."""

    decision: auditing.Decision


class Authority:
    """Refuses what a subject may not do, in the view that the act itself reads and writes."""

    def __init__(self, evaluator: Evaluator, engines: Engines[State]) -> None:
        self._evaluator = evaluator
        self._engines = engines

    async def answers(
        self,
        view: View,
        resources: Iterable[Resource],
        subjects: Iterable[str],
        contextual: Sequence[Relationship] = (),
    ) -> Answers:
        """Answers about some resources and subjects, in the view's tenant."""
        references = {str(each) for each in resources}
        return await self._evaluator.answers(view, view.tenant_id, references, set(subjects), contextual)

    async def require(
        self,
        view: View,
        subject: str,
        needs: Collection[Need],
        *,
        pending: Sequence[Relationship] = (),
        hidden_as: str = "",
    ) -> Grants:
        """PermissionDenied for the first need that is not met, or NotFound where the subject may not even read;
        `hidden_as` is what is not found then, if not the resource. Links that are `pending` count as stored. Gives what
        was asked, for `require_within` at the same resources.
        """
        answers: Grants | None = self._at_hand(view, pending)
        if answers is None:
            answers = await self.answers(view, {resource for resource, _ in needs}, [subject], pending)
        revision = _decided_at(view, answers)
        for resource, verb in needs:
            if not answers.allowed(subject, str(resource), resource.permission(verb)):
                visible = answers.allowed(subject, str(resource), resource.permission(schema.READ))
                raise denial(subject, resource, verb, revision, visible=visible, hidden_as=hidden_as)
        if needs and not view.decisions:
            view.decisions.append(_allowed(answers, subject, next(iter(needs)), revision))
        return answers

    async def require_within(
        self, view: View, subject: str, given: Mapping[Resource, frozenset[str]], answers: Grants | None = None
    ) -> None:
        """PermissionDenied GRANT_EXCEEDS_OWN unless the subject has each of the permissions given at each resource."""
        if answers is None:
            answers = self._at_hand(view) or await self.answers(view, given, [subject])
        for resource, permissions in given.items():
            if lacked := domain.exceeding(permissions, answers.effective(subject, str(resource)), resource):
                raise _excess(subject, resource, lacked, _decided_at(view, answers))

    def _at_hand(self, view: View, pending: Sequence[Relationship] = ()) -> Grants | None:
        """The engine, where it is at the revision that a change begins from, and the change has written nothing."""
        if not isinstance(view, Change) or view.changes or len(pending) > _MOST_PENDING:
            return None
        state = self._engines.nearest(view.tenant_id)
        if state is None:
            self._engines.prepare(view.tenant_id)
        if state is None or state.revision != view.at - 1:
            return None
        # A database that was put back may have come to the same number again.
        if not changelog.agree(changelog.Point(state.revision, state.made), view.made):
            return None
        assumed = tuple(map(as_relationship, pending))
        return _FromEngine(state.engine, Circumstances(view.now.timestamp(), contextual=assumed))

    async def is_tenant_owner(self, view: View, subject: str) -> bool:
        """Whether the subject owns the whole tenant; such a one has every permission everywhere in it."""
        tenant = Resource(schema.TENANT, view.tenant_id)
        answers = await self.answers(view, [tenant], [subject])
        return answers.owner_grant(subject, str(tenant)) is not None


def _decided_at(view: View, answers: Grants) -> int:
    # What the change at hand has made of the revision is not true yet.
    return view.at - 1 if isinstance(view, Change) else answers.revision


def _excess(subject: str, resource: Resource, lacked: Sequence[str], revision: int) -> DeniedError:
    words = f"you cannot give {lacked[0]} at {resource}: you do not have it there yourself"
    metadata = {"resource": str(resource), "permission": lacked[0], "missing_count": str(len(lacked))}
    error = DeniedError(words, reason="GRANT_EXCEEDS_OWN", metadata=metadata)
    error.decision = auditing.Decision(subject, str(resource), lacked[0], "denied", revision=str(revision))
    return error


def _allowed(answers: Grants, subject: str, need: Need, revision: int) -> auditing.Decision:
    """What an act rests on, with the grant that it came through."""
    resource, permission = str(need[0]), need[0].permission(need[1])
    grant = answers.grant_of(subject, resource, permission)
    return auditing.Decision(subject, resource, permission, "allowed", grant, str(revision))


def denial(
    subject: str, resource: Resource, verb: str, revision: int, *, visible: bool, hidden_as: str = ""
) -> DeniedError | HiddenError:
    """What to answer to a subject that may not: not found where the resource is not `visible` to it."""
    permission = resource.permission(verb)
    error: DeniedError | HiddenError
    if not visible and resource.type != schema.TENANT:
        metadata = {"resource": hidden_as or str(resource)}
        error = HiddenError(resource.type, hidden_as or str(resource), metadata=metadata)
    else:
        metadata = {"resource": str(resource), "permission": permission}
        error = DeniedError(f"{subject} may not {verb} {resource}; ExplainPermission says why", metadata=metadata)
    error.decision = auditing.Decision(subject, str(resource), permission, "denied", revision=str(revision))
    return error


class RefusalsRecorded:
    """Puts a denial of its block, which reads, into the decision log. No generator: each check goes through one."""

    __slots__ = ("_caller", "_log")

    def __init__(self, log: DecisionLog, caller: RequestContext) -> None:
        self._log = log
        self._caller = caller

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, DeniedError | HiddenError):
            self._log.take(self._caller, [error.decision])
