"""Puts into words why a subject holds a permission, or why not."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from pyairtable_mesh.permission import schema
from pyairtable_mesh.permission.domain import Resource, ScopeMode, role_name, smallest_role
from pyairtable_mesh.permission.evaluator import Answers, Why


class StepKind(Enum):
    """What a step of a path says."""

    MEMBERSHIP = "membership"
    ROLE_BINDING = "role_binding"
    INHERITANCE = "inheritance"


@dataclass(frozen=True, slots=True)
class Step:
    """`subject` stands in `relation` to `object`; a role binding is named by its id."""

    kind: StepKind
    object: str
    relation: str
    subject: str
    role_binding: str = ""


@dataclass(frozen=True, slots=True)
class MissingGrant:
    """A role that would have to be bound at a resource, for the sake of one permission."""

    resource: str
    role: str
    permission: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """An answer with its reasons: a path where it is allowed, missing grants where it is not."""

    allowed: bool
    sentence: str
    path: Sequence[Step] = ()
    missing: Sequence[MissingGrant] = ()


def explain(answers: Answers, subject: str, resource: Resource, verb: str, *, surroundings: bool) -> Explanation:
    """Why `subject` may or may not. Without `surroundings` a denial tells nothing of what is above the resource."""
    permission = resource.permission(verb)
    why = answers.why(subject, str(resource), permission)
    if why is not None:
        because = "; ".join(_because(each, subject, verb) for each in _layers(why))
        return Explanation(True, f"{subject} may {verb} {resource}: {because}.", _path(why))
    places = answers.missing(subject, str(resource), permission) if surroundings else [str(resource)]
    missing = [MissingGrant(place, smallest_role(permission), permission) for place in places]
    words = _denial(answers, subject, str(resource), permission) if surroundings else _nothing_here(subject, permission)
    return Explanation(False, f"{subject} may not {verb} {resource}: {words}.", missing=missing)


def _layers(why: Why) -> list[Why]:
    return [why, *(_layers(why.parent) if why.parent else [])]


def _because(why: Why, subject: str, verb: str) -> str:
    grant = why.grant
    words = f"{role_name(grant.role)} is bound to {grant.subject} at {grant.resource}"
    clauses = [words]
    if why.memberships:
        groups = ", which is in ".join(group for _, group in why.memberships)
        clauses.append(f"{subject} is in {groups}")
    if len(why.resources) > 1:
        asked = why.resources[-1]
        clauses.append(f"{asked} inherits from {_way_up(why.resources)}")
    if why.parent is not None:
        clauses.append(f"{grant.resource} is restricted to those who may {verb} above it as well")
    return _listed(clauses)


def _way_up(resources: Sequence[str]) -> str:
    return " through ".join([resources[0], " and ".join(reversed(resources[1:-1]))]) if resources[2:] else resources[0]


def _denial(answers: Answers, subject: str, resource: str, permission: str) -> str:
    reducer = answers.reducer(subject, resource, permission)
    if reducer is not None:
        parent = answers.parent(reducer)
        if answers.mode(reducer) is ScopeMode.RESTRICT:
            return (
                f"{subject} has {permission} at {parent}, but {reducer} is restricted to roles that are bound there,"
                " and none of these has it"
            )
        return f"{subject} has {permission} at {parent}, but the roles that are bound at {reducer} override that"
    everywhere = " or ".join(answers.chain(resource))
    return f"no role with {permission} is bound to {_whom(subject)} at {everywhere}"


def _nothing_here(subject: str, permission: str) -> str:
    return f"no role with {permission} that counts here is bound to {_whom(subject)}"


def _whom(subject: str) -> str:
    return f"{subject} or a group of it"


def _listed(clauses: Sequence[str]) -> str:
    return clauses[0] if len(clauses) == 1 else f"{', '.join(clauses[:-1])}, and {clauses[-1]}"


def _path(why: Why) -> list[Step]:
    above = _path(why.parent) if why.parent else []
    grant = why.grant
    memberships = [Step(StepKind.MEMBERSHIP, group, schema.MEMBER, member) for member, group in why.memberships]
    binding = Step(StepKind.ROLE_BINDING, grant.resource, role_name(grant.role), grant.subject, grant.binding)
    links = [
        Step(StepKind.INHERITANCE, child, schema.TYPES[child.partition(":")[0]].parent, parent)
        for parent, child in zip(why.resources, why.resources[1:], strict=False)
    ]
    return [*above, *memberships, binding, *links]
