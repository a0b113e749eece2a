"""Roles, who they are bound to and where, and how resources inherit."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from pyairtable_mesh.permission import domain, schema
from pyairtable_mesh.permission.domain import Changed, Inheritance, Resource, Role, RoleBinding, ScopeMode, Subject
from pyairtable_mesh.permission.platform import require_context
from pyairtable_mesh.permission.store import View
from pyairtable_mesh.permission.usecases import past
from pyairtable_mesh.permission.usecases.authority import Authority
from pyairtable_mesh.permission.usecases.changes import Act, Acts, M
from pyairtable_mesh.permission.usecases.consistency import Consistency, Tokens
from pyairtable_mesh.runtime import ids
from pyairtable_mesh.runtime.context import RequestContext
from pyairtable_mesh.runtime.database import Database
from pyairtable_mesh.runtime.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    PreconditionViolation,
    ResourceExhausted,
)

_MOST_BINDINGS_OF_A_ROLE = 1_000
_MOST_OWNERS = 10_000


@dataclass(frozen=True, slots=True)
class Grant:
    """What to bind: a role by its id, where, to whom, until when, under which condition with which values as JSON."""

    role: str
    resource: Resource
    subject: Subject
    expire_time: datetime | None = None
    condition: str = ""
    context: str = ""


@dataclass(frozen=True, slots=True)
class RolePatch:
    """The new values of a role's fields; None leaves one as it is."""

    display_name: str | None = None
    description: str | None = None
    permissions: frozenset[str] | None = None

    def applied(self, role: Role) -> Role:
        """The role with the new values."""
        return replace(
            role,
            display_name=role.display_name if self.display_name is None else self.display_name,
            description=role.description if self.description is None else self.description,
            permissions=role.permissions if self.permissions is None else self.permissions,
        )


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which bindings to list; empty matches everything, `role` is an id."""

    resource: str = ""
    subject: str = ""
    role: str = ""


class Roles:
    """Every change is decided in its own transaction, so that two of them cannot undo a rule together."""

    def __init__(
        self,
        database: Database,
        acts: Acts,
        authority: Authority,
        tokens: Tokens,
        clock: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._acts = acts
        self._authority = authority
        self._tokens = tokens
        self._clock = clock

    async def grant(self, caller: RequestContext, grant: Grant, answer: Callable[[RoleBinding, str], M]) -> M:
        """Bind a role; `answer` gets the binding and the token of the new state."""
        domain.require_bindable(grant.subject)
        domain.require_condition(grant.condition, "condition")
        caller = _of_tenant(caller, grant.resource)
        async with self._acts.begin(caller) as act:
            domain.require_future(grant.expire_time, act.data.now, "expire_time")
            binding = RoleBinding(
                ids.new_id("rbn"),
                grant.role,
                grant.resource,
                grant.subject,
                caller.actor.subject,
                act.data.now,
                grant.expire_time,
                act.data.at,
                grant.condition,
                grant.context,
            )
            require_context(binding, "condition")
            if caller.actor.kind == "workload":
                await _require_first_owner(act.data, binding)
            else:
                me, needs = caller.user(), [(grant.resource, schema.MANAGE_ACCESS)]
                answers = await self._authority.require(act.data, me, needs)
                given = {grant.resource: (await _role(act.data, grant.role)).permissions}
                await self._authority.require_within(act.data, me, given, answers)
            if (there := await act.data.put_binding(binding)) is not None:
                raise _bound_already(there)
            act.announce_binding(binding, "granted", kept=True)
            return act.answer(answer(binding, act.token))

    async def revoke(self, caller: RequestContext, name: str, etag: str, answer: Callable[[str], M]) -> M:
        """Remove a binding; `answer` gets the token of the new state."""
        async with self._acts.begin(caller) as act:
            binding = await act.data.binding(domain.binding_id(name))
            if binding is None:
                raise NotFound("role_binding", name, reason="ROLE_BINDING_NOT_FOUND")
            if str(binding.subject) != caller.user():
                needs = [(binding.resource, schema.MANAGE_ACCESS)]
                await self._authority.require(act.data, caller.user(), needs, hidden_as=name)
                role = await _role(act.data, binding.role)
                await self._authority.require_within(act.data, caller.user(), {binding.resource: role.permissions})
            domain.require_etag(etag, binding.etag, name)
            resource = str(binding.resource)
            owners = await act.data.bindings(_MOST_OWNERS, resource=resource, role=schema.OWNER)
            domain.require_other_owner(binding, owners)
            await act.data.delete_binding(binding.id)
            act.announce_binding(binding, "revoked", kept=False)
            return act.answer(answer(act.token))

    async def binding(self, caller: RequestContext, name: str) -> RoleBinding:
        """A binding that has not expired: one's own, or one at a resource that the caller manages."""
        async with self._database.read(caller) as connection:
            view = View(connection, caller.tenant_id, self._clock())
            found = await view.binding(domain.binding_id(name))
            if found is None or (found.expire_time is not None and found.expire_time <= view.now):
                raise NotFound("role_binding", name, reason="ROLE_BINDING_NOT_FOUND")
            if str(found.subject) != caller.user():
                needs = [(found.resource, schema.MANAGE_ACCESS)]
                with self._acts.reading(caller):
                    await self._authority.require(view, caller.user(), needs, hidden_as=name)
            return found

    async def bindings(
        self, caller: RequestContext, wanted: Wanted, consistency: Consistency, size: int, after: str
    ) -> tuple[list[RoleBinding], str]:
        """Up to `size` bindings behind an id, in the order of their ids; and the token of the state."""
        resource = Resource.parse(wanted.resource) if wanted.resource else Resource(schema.TENANT, caller.tenant_id)
        if wanted.subject:
            Subject.parse(wanted.subject)
        async with self._database.read(caller) as connection:
            view = View(connection, caller.tenant_id, self._clock())
            revision = self._tokens.read_at(caller.tenant_id, consistency, await view.revision())
            if wanted.subject != caller.user():
                with self._acts.reading(caller):
                    await self._authority.require(view, caller.user(), [(resource, schema.MANAGE_ACCESS)])
            with self._tokens.kept(caller.tenant_id):
                found = await past.bindings(
                    view, revision, size, after, resource=wanted.resource, subject=wanted.subject, role=wanted.role
                )
            return found, self._tokens.of(caller.tenant_id, revision)

    async def create(self, caller: RequestContext, draft: Role, answer: Callable[[Role, str], M]) -> M:
        """Create a custom role; `answer` gets it and the token of the new state."""
        draft.validate()
        async with self._acts.begin(caller) as act:
            await self._require_may_define(act.data, caller.user(), draft)
            now = act.data.now
            role = replace(
                draft,
                id=ids.new_id("rol"),
                create_time=now,
                update_time=now,
                creator=caller.user(),
                revision=act.data.at,
            )
            await _store_role(act, role, "created")
            return act.answer(answer(role, act.token))

    async def get(self, caller: RequestContext, role_id: str) -> Role:
        """A role, system or custom."""
        async with self._database.read(caller) as connection:
            return await _role(View(connection, caller.tenant_id, self._clock()), role_id)

    async def list(self, caller: RequestContext, size: int, after: str) -> list[Role]:
        """Up to `size` roles behind an id: the system roles, then custom ones in the order of their ids."""
        system = [domain.system_role(each) for each in schema.SYSTEM_ROLES]
        known = [each.id for each in system]
        rest = system[known.index(after) + 1 :] if after in known else [] if after else system
        async with self._database.read(caller) as connection:
            view = View(connection, caller.tenant_id, self._clock())
            custom = await view.roles(size - len(rest), "" if after in known else after) if len(rest) < size else []
        return [*rest, *custom][:size]

    async def update(
        self, caller: RequestContext, role_id: str, patch: RolePatch, etag: str, answer: Callable[[Role, str], M]
    ) -> M:
        """Change a custom role; `answer` gets it and the token of the new state."""
        async with self._acts.begin(caller) as act:
            await self._require_manager(act.data, caller.user())
            stored = await _role(act.data, role_id)
            stored.require_custom()
            domain.require_etag(etag, stored.etag, stored.name)
            role = replace(patch.applied(stored), update_time=act.data.now, revision=act.data.at)
            role.validate()
            if role.permissions != stored.permissions:
                await self._require_may_define(act.data, caller.user(), role)
                await self._require_within_where_bound(act.data, caller.user(), role)
            await _store_role(act, role, "updated")
            return act.answer(answer(role, act.token))

    async def delete(self, caller: RequestContext, role_id: str, etag: str, answer: Callable[[str], M]) -> M:
        """Delete a custom role that is bound nowhere; `answer` gets the token of the new state."""
        async with self._acts.begin(caller) as act:
            await self._require_manager(act.data, caller.user())
            role = await _role(act.data, role_id)
            role.require_custom()
            domain.require_etag(etag, role.etag, role.name)
            if bound := await act.data.bindings(1, role=role_id):
                violation = PreconditionViolation("ROLE_IN_USE", role.name, f"it is bound by {bound[0].name}")
                words = f"{role.name} is bound: revoke its bindings first"
                raise FailedPrecondition(words, [violation], reason="ROLE_IN_USE", metadata={"role": role.name})
            await act.data.delete_role(role_id)
            act.announce("role.deleted", role.name, [Changed(role, kept=False)], f"role:{role.id}")
            return act.answer(answer(act.token))

    async def set_inheritance(
        self, caller: RequestContext, inheritance: Inheritance, answer: Callable[[Inheritance, str], M]
    ) -> M:
        """Set a scope mode; `answer` gets it and the token of the new state."""
        resource = inheritance.resource
        if resource.type == schema.TENANT and inheritance.mode is not ScopeMode.INHERIT:
            raise InvalidArgument.of_field("resource", "a tenant has nothing to inherit from")
        async with self._acts.begin(caller) as act:
            await self._authority.require(act.data, caller.user(), [(resource, schema.MANAGE_ACCESS)])
            await act.data.set_mode(str(resource), inheritance.mode)
            details = {"mode": inheritance.mode.value}
            act.announce("inheritance.set", str(resource), [Changed(inheritance)], resource, details)
            return act.answer(answer(inheritance, act.token))

    async def _require_manager(self, view: View, subject: str) -> None:
        await self._authority.require(view, subject, [(_tenant(view), schema.MANAGE_ACCESS)])

    async def _require_may_define(self, view: View, subject: str, role: Role) -> None:
        await self._require_manager(view, subject)
        await self._authority.require_within(view, subject, {_tenant(view): role.permissions})

    async def _require_within_where_bound(self, view: View, subject: str, role: Role) -> None:
        """Who changes a bound role gives its permissions at each place where it is bound; owners have them all."""
        if await self._authority.is_tenant_owner(view, subject):
            return
        bound = await view.bindings(_MOST_BINDINGS_OF_A_ROLE + 1, role=role.id)
        if len(bound) > _MOST_BINDINGS_OF_A_ROLE:
            words = f"only an owner may change what a role with more than {_MOST_BINDINGS_OF_A_ROLE} bindings permits"
            raise ResourceExhausted(words, reason="EVALUATION_LIMIT", metadata={"path": role.name})
        await self._authority.require_within(view, subject, {each.resource: role.permissions for each in bound})


def _tenant(view: View) -> Resource:
    return Resource(schema.TENANT, view.tenant_id)


def _of_tenant(caller: RequestContext, resource: Resource) -> RequestContext:
    """A workload has no tenant of its own: it acts in the one that it names."""
    if caller.actor.kind != "workload":
        return caller
    if resource.type != schema.TENANT:
        raise _not_first_owner(resource)
    return replace(caller, tenant_id=resource.id)


def _not_first_owner(resource: Resource) -> PermissionDenied:
    words = "a workload binds only the first owner of a tenant, for good"
    return PermissionDenied(words, metadata={"resource": str(resource)})


async def has_owner(view: View, resource: Resource) -> bool:
    """Whether somebody owns the resource for good."""
    owners = await view.bindings(_MOST_OWNERS, resource=str(resource), role=schema.OWNER)
    return any(each.keeps_ownership for each in owners)


async def _require_first_owner(view: View, binding: RoleBinding) -> None:
    if not binding.keeps_ownership or await has_owner(view, binding.resource):
        raise _not_first_owner(binding.resource)


async def _role(view: View, role_id: str) -> Role:
    if role_id in schema.SYSTEM_ROLES:
        return domain.system_role(role_id)
    role = await view.role(role_id)
    if role is None:
        raise NotFound("role", domain.role_name(role_id), reason="ROLE_NOT_FOUND")
    return role


def _bound_already(there: RoleBinding) -> AlreadyExists:
    words = f"{domain.role_name(there.role)} is bound to {there.subject} at {there.resource} already"
    metadata = {"name": there.name}
    return AlreadyExists("role_binding", there.name, words, reason="ROLE_BINDING_EXISTS", metadata=metadata)


async def _store_role(act: Act, role: Role, event: str) -> None:
    taken = await act.data.role_id_of(role.display_name)
    if taken not in {None, role.id}:
        words = f"another role is called {role.display_name!r}"
        raise AlreadyExists("role", domain.role_name(taken or ""), words, reason="ROLE_EXISTS")
    await act.data.put_role(role)
    details = {"permissions": str(len(role.permissions))}
    act.announce(f"role.{event}", role.name, [Changed(role)], f"role:{role.id}", details)
