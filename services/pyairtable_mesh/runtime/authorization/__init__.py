"""The authorization engine: relationships and roles in memory, answered exactly, in about a microsecond.

A pure core, the same in the permission service and in every service's embedded replica: no I/O, no clock (the time is
an argument), no threads. An engine is the state of one space of one tenant at one revision; whoever holds it applies
changes in the order of their revisions, and asks. There are two engines, which share the graph below them:

- `RelationEngine` (relations.py): any OpenFGA model. A permission is a relation of the schema.
- `ScopedEngine` (scopes.py): the product's model. A permission comes from roles, bound at resources of a hierarchy with
  scope modes; relationships say who is in which group and what is below what.

Layout, from the ground up (each module imports only what stands before it):

==================  ================================================================================================
language/           the OpenFGA modelling language 1.1: `parser.parse(text)` (lark), tree (`str` prints it), validation,
                    `difference.differences`, `document` (JSON form, no grammar needed)
facts, verdicts     Relationship, Term, Change, Circumstances, Decision, Limits; the three-valued semantics in words
names, graph        references as integers, relations as slots, relationships as maps of integers and roaring bitmaps
roles, bindings     what is bound where, by handles
query               one question while it is answered
conditions          CEL, imported when a schema has a condition
compiler            closures per slot: depth first, cuts cycles, keeps nothing that hangs on a cut
derivation          the same as equations: the well-founded model where a cycle runs through an exclusion
relations           `RelationEngine`
lookup, explanation lists and reasons for it: `lookup_resources`, `lookup_subjects`, `explain`, `expand`
policy, identities  the hierarchy and permission bits of a model with roles; groups that a subject is in
scope_rules, scopes effective permissions; `ScopedEngine`
scope_lookup, ...   `ScopedLookup(engine).resources / .subjects`, `explain_scoped`, `granting`, `expand_scoped`
product/            the product's model (model.fga) and system roles
snapshot            `dump(engine)`, `load_relations(bytes, schema)`, `load_scoped(bytes, policy)`
==================  ================================================================================================

Use::

    engine = RelationEngine(parse(text))                        # or ScopedEngine(product.policy(), "tenant:ten…")
    engine.validate([Change(relationship), ...])                # InvalidArgument on a part of changes[index]
    engine.apply(revision, [Change(relationship), ...])         # validated changes, one revision
    engine.check(("doc:1", "viewer", "user:a"), Circumstances(now, context, contextual))  # Decision
    engine.allowed(handle, bit, handle, now)                    # by engine.handle and engine.permission: the fast way

Every question may raise InvalidArgument (a reference that the schema does not have) or ResourceExhausted
EVALUATION_LIMIT with the path; never anything else. Names are imported when they are first used: who only checks does
not pay for the grammar or for CEL.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyairtable_mesh.runtime.authorization.explanation import expand, explain
    from pyairtable_mesh.runtime.authorization.facts import (
        Change,
        Circumstances,
        Decision,
        Limits,
        Relationship,
        Term,
    )
    from pyairtable_mesh.runtime.authorization.lookup import Found, Listing, lookup_resources, lookup_subjects
    from pyairtable_mesh.runtime.authorization.relations import RelationEngine
    from pyairtable_mesh.runtime.authorization.roles import (
        Binding,
        BindingChange,
        ModeChange,
        RoleChange,
        ScopedChange,
        ScopeMode,
    )
    from pyairtable_mesh.runtime.authorization.scope_expansion import expand_scoped
    from pyairtable_mesh.runtime.authorization.scope_explanation import explain_scoped, granting
    from pyairtable_mesh.runtime.authorization.scope_lookup import ScopedLookup
    from pyairtable_mesh.runtime.authorization.scopes import ScopedEngine
    from pyairtable_mesh.runtime.authorization.snapshot import SnapshotError, dump, load_relations, load_scoped

_HOME = {
    "Binding": "roles",
    "BindingChange": "roles",
    "Change": "facts",
    "Circumstances": "facts",
    "Decision": "facts",
    "Found": "lookup",
    "Limits": "facts",
    "Listing": "lookup",
    "ModeChange": "roles",
    "RelationEngine": "relations",
    "Relationship": "facts",
    "RoleChange": "roles",
    "ScopeMode": "roles",
    "ScopedChange": "roles",
    "ScopedEngine": "scopes",
    "ScopedLookup": "scope_lookup",
    "SnapshotError": "snapshot",
    "Term": "facts",
    "dump": "snapshot",
    "expand": "explanation",
    "explain": "explanation",
    "expand_scoped": "scope_expansion",
    "explain_scoped": "scope_explanation",
    "granting": "scope_explanation",
    "load_relations": "snapshot",
    "load_scoped": "snapshot",
    "lookup_resources": "lookup",
    "lookup_subjects": "lookup",
}

__all__ = [
    "Binding",
    "BindingChange",
    "Change",
    "Circumstances",
    "Decision",
    "Found",
    "Limits",
    "Listing",
    "ModeChange",
    "RelationEngine",
    "Relationship",
    "RoleChange",
    "ScopeMode",
    "ScopedChange",
    "ScopedEngine",
    "ScopedLookup",
    "SnapshotError",
    "Term",
    "dump",
    "expand",
    "expand_scoped",
    "explain",
    "explain_scoped",
    "granting",
    "load_relations",
    "load_scoped",
    "lookup_resources",
    "lookup_subjects",
]


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
