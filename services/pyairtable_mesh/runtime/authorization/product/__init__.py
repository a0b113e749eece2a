"""The product's schema: ``model.fga`` is the source, ``model.json`` the same without its grammar (``make_document``),
and the roles that come with it. Only a release changes any of it.
"""

import json
from functools import cache
from pathlib import Path

from pyairtable_mesh.runtime.authorization.conditions import Conditions
from pyairtable_mesh.runtime.authorization.language import document
from pyairtable_mesh.runtime.authorization.language.syntax import Schema
from pyairtable_mesh.runtime.authorization.policy import Policy

OWNER, CREATOR, EDITOR, COMMENTER, VIEWER = "owner", "creator", "editor", "commenter", "viewer"
PRINCIPALS = frozenset({"user", "service_account", "api_key", "share_link"})
"""Types whose objects can hold a role by themselves."""
OWNED = frozenset({"tenant", "workspace"})
"""Types that never lose their last owner."""
_HERE = Path(__file__).parent


def source() -> str:
    """The model's text."""
    return (_HERE / "model.fga").read_text(encoding="utf-8")


@cache
def schema() -> Schema:
    """The model's tree, from its document."""
    return document.from_document(json.loads((_HERE / "model.json").read_bytes()))


@cache
def policy() -> Policy:
    """The hierarchy and the permissions of the model."""
    return Policy(schema(), root="tenant")


@cache
def conditions() -> Conditions:
    """The conditions of the model."""
    return Conditions(schema())


@cache
def system_roles() -> dict[str, frozenset[str]]:
    """The permissions of each role that comes with the product, from the least to the greatest."""
    known = policy()
    viewer = frozenset(f"{each}.read" for each in known.verbs if each not in {"api_key", "webhook"})
    commenter = viewer | {"record.comment"}
    editor = commenter | {
        *("table.create_record", "record.update", "record.delete", "field.edit", "tenant.create_file", "file.update"),
    }
    created = known.below("base") | {"webhook", "share_link"}
    creator = (
        editor
        | {"tenant.create_webhook", "tenant.create_workspace", "workspace.create_base", "file.delete"}
        | {f"{each}.{verb}" for each in created for verb in known.verbs[each]}
    )
    everything = frozenset(known.permissions)
    return {VIEWER: viewer, COMMENTER: commenter, EDITOR: editor, CREATOR: creator, OWNER: everything}


def make_document() -> bytes:
    """The content of ``model.json``, from the model's text."""
    from pyairtable_mesh.runtime.authorization.language.parser import parse  # noqa: PLC0415 # the grammar

    return json.dumps(document.to_document(parse(source())), separators=(",", ":")).encode()
