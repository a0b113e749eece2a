"""Who may do what to permissions themselves: the rules of permission.md, asked of the evaluator."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

from pyairtable_mesh.permission import domain, schema
from pyairtable_mesh.permission.domain import Relationship, Resource
from pyairtable_mesh.permission.evaluator import Answers, Reads
from pyairtable_mesh.permission.store import Change, View
from pyairtable_mesh.runtime import auditing
from pyairtable_mesh.runtime.context import RequestContext
from pyairtable_mesh.runtime.decisions import DecisionLog
from pyairtable_mesh.runtime.errors import NotFound, PermissionDenied

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


class DeniedError(PermissionDenied):
    """A denial to somebody who may know of the resource; `decision` is what the audit log gets."""

    decision: auditing.Decision


class HiddenError(NotFound):
    """A denial to somebody who may not know that the resource exists; `decision` is what the audit log gets."""

    decision: auditing.Decision


class Authority:
    """Refuses what a subject may not do, in the view that the act itself reads and writes."""

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator

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
    ) -> Answers:
        """PermissionDenied for the first need that is not met, or NotFound where the subject may not even read;
        `hidden_as` is what is not found then, if not the resource. Links that are `pending` count as stored. Gives what
        was asked, for `require_within` at the same resources.
        """
        answers = await self.answers(view, {resource for resource, _ in needs}, [subject], pending)
        # What the change at hand has made of the revision is not true yet.
        revision = view.at - 1 if isinstance(view, Change) else answers.revision
        for resource, verb in needs:
            if not answers.allowed(subject, str(resource), resource.permission(verb)):
                visible = answers.allowed(subject, str(resource), resource.permission(schema.READ))
                raise denial(subject, resource, verb, revision, visible=visible, hidden_as=hidden_as)
        if needs and not view.decisions:
            view.decisions.append(_allowed(answers, subject, next(iter(needs)), revision))
        return answers

    async def require_within(
        self, view: View, subject: str, given: Mapping[Resource, frozenset[str]], answers: Answers | None = None
    ) -> None:
        """PermissionDenied GRANT_EXCEEDS_OWN unless the subject has each of the permissions given at each resource."""
        if answers is None:
            answers = await self.answers(view, given, [subject])
        for resource, permissions in given.items():
            domain.require_within(permissions, answers.effective(subject, str(resource)), resource)

    async def is_tenant_owner(self, view: View, subject: str) -> bool:
        """Whether the subject owns the whole tenant; such a one has every permission everywhere in it."""
        tenant = Resource(schema.TENANT, view.tenant_id)
        answers = await self.answers(view, [tenant], [subject])
        return answers.owner_grant(subject, str(tenant)) is not None


def _allowed(answers: Answers, subject: str, need: Need, revision: int) -> auditing.Decision:
    """What an act rests on, with the grant that it came through."""
    resource, permission = str(need[0]), need[0].permission(need[1])
    why = answers.why(subject, resource, permission)
    grant = domain.binding_name(why.grant.binding) if why else ""
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


@contextmanager
def refusals_recorded(log: DecisionLog, caller: RequestContext) -> Iterator[None]:
    """Put a denial of the block, which reads, into the decision log before it is passed on."""
    try:
        yield
    except (DeniedError, HiddenError) as refusal:
        log.take(caller, refusal.decision)
        raise
