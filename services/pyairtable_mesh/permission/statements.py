"""What each check of authority reads and what each change writes, as SQL for either database, made once.

What is read is text and not Core: it runs for every check, and Core would take longer to compile than SQLite to answer.
"""

from sqlalchemy import BigInteger, BindParameter, TextClause, bindparam, delete, insert, text

from pyairtable_mesh.permission import schema
from pyairtable_mesh.permission.changelog import PLATFORM
from pyairtable_mesh.permission.tables import INHERITANCE, RELATIONSHIP, REVISION, ROLE, ROLE_BINDING
from pyairtable_mesh.runtime.columns import Timestamp, insert_missing
from pyairtable_mesh.runtime.writes import Returning, Write

LISTED = {
    "sqlite": "json_each(:{0}) AS listed",
    "postgresql": "unnest(CAST(:{0} AS text[])) AS listed(value)",
}
"""The strings of a parameter as rows, by dialect; an array on PostgreSQL, JSON on SQLite."""
_PROBED = {
    "sqlite": "{outer} CROSS JOIN {table} AS r WHERE {condition}",
    "postgresql": "{outer} CROSS JOIN LATERAL (SELECT * FROM {table} AS r WHERE {condition} OFFSET 0) AS r",
}
"""An index probe of `table` for each row of `outer`, which planners without fresh statistics would not choose."""
_LINKS = ", ".join(f"'{relation}'" for relation in sorted(schema.LINKS))


def _closure(dialect: str) -> TextClause:
    probed, listed = _PROBED[dialect], LISTED[dialect]
    link = f"r.tenant_id = :tenant AND r.relation IN ({_LINKS}) AND r.resource = "
    joined = (
        "r.tenant_id = :tenant AND r.relation = 'member' AND (r.expire_time IS NULL OR r.expire_time > :now)"
        " AND r.subject = "
    )

    def each(outer: str, condition: str) -> str:
        return probed.format(outer=outer, table="relationship", condition=condition)

    return text(f"""
        WITH RECURSIVE
        link(child, parent) AS (
          SELECT r.resource, r.subject FROM {each(listed.format("resources"), f"{link} listed.value")}
          UNION
          SELECT r.resource, r.subject FROM {each("link", f"{link} link.parent")}
        ),
        membership(member, joined, condition) AS (
          SELECT r.subject, r.resource, r.condition FROM {each(listed.format("subjects"), f"{joined} listed.value")}
          UNION
          SELECT r.subject, r.resource, r.condition
          FROM {each("membership", f"{joined} membership.joined || '#member'")}
        )
        SELECT 'link' AS kind, child, parent FROM link
        UNION ALL
        SELECT * FROM (
          SELECT CASE WHEN condition = '' THEN 'membership' ELSE 'conditional' END, member, joined
          FROM membership LIMIT :most
        ) AS bounded
    """).bindparams(bindparam("now", type_=Timestamp()))  # noqa: S608 - constants of this module and the schema


def _held(dialect: str) -> TextClause:
    probed, listed = _PROBED[dialect], LISTED[dialect]
    bound = "r.tenant_id = :tenant AND r.subject = listed.value AND (r.expire_time IS NULL OR r.expire_time > :now)"
    bindings = probed.format(outer=listed.format("subjects"), table="role_binding", condition=bound)
    scoped = "r.tenant_id = :tenant AND r.resource = listed.value"
    modes = probed.format(outer=listed.format("resources"), table="inheritance", condition=scoped)
    return text(f"""
        SELECT 'grant' AS kind, b.binding_id AS name, b.role AS value, b.resource, b.subject, role.permissions,
               b.condition
        FROM (SELECT r.* FROM {bindings}) AS b
        LEFT JOIN role ON role.tenant_id = :tenant AND role.role_id = b.role
        WHERE b.resource IN (SELECT value FROM {listed.format("resources")})
        UNION ALL
        SELECT 'mode', '', r.mode, r.resource, '', NULL, '' FROM {modes}
        UNION ALL
        SELECT 'revision', '', CAST(v.revision AS text), '', '', NULL, '' FROM revision v WHERE v.tenant_id = :tenant
    """).bindparams(bindparam("now", type_=Timestamp()))  # noqa: S608 - constants of this module and the schema


CLOSURE = {dialect: _closure(dialect) for dialect in LISTED}
"""By dialect: everything above some resources and around some subjects, see `evaluator.Reads`."""
HELD = {dialect: _held(dialect) for dialect in LISTED}
"""By dialect: the grants of some subjects at some resources, the scope modes of these, and the revision."""

_TENANT: BindParameter[str] = bindparam("tenant")
RAISE = Returning(
    text(f"""
        UPDATE revision SET revision = revision + 1 WHERE tenant_id = :tenant
        RETURNING revision, (
          SELECT c.create_time FROM changelog AS c
          WHERE c.tenant_id = revision.tenant_id AND c.space = '{PLATFORM}'
          AND c.revision = revision.revision - 1 AND c.ordinal = 0
        ) AS made
    """).columns(revision=BigInteger(), made=Timestamp())  # noqa: S608 - a constant
)
"""Takes a tenant's next revision, and tells when the one before was made."""
INSERT = {table: Write(insert(table)) for table in (INHERITANCE, RELATIONSHIP, REVISION, ROLE)}
INSERT_BINDING = Write(insert_missing(ROLE_BINDING))
DELETE_BY_KEY = Write(
    delete(RELATIONSHIP).where(
        RELATIONSHIP.c.tenant_id == _TENANT,
        *(RELATIONSHIP.c[name] == bindparam(f"at_{name}") for name in ("resource", "relation", "subject")),
    )
)
"""Deletes relationships whose keys are ``at_resource``, ``at_relation`` and ``at_subject``."""
