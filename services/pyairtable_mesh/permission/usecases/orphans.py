"""What is stored and would lose its meaning by another schema."""

from collections.abc import AsyncIterator

from pyairtable_mesh.permission.domain import SpaceRelationship
from pyairtable_mesh.permission.spaces import SpaceView, as_relationship
from pyairtable_mesh.runtime.authorization import RelationEngine, Relationship
from pyairtable_mesh.runtime.authorization.language.syntax import Schema
from pyairtable_mesh.runtime.errors import FailedPrecondition, InvalidArgument, PreconditionViolation

_SHOWN = 20


async def orphaned(view: SpaceView, tree: Schema) -> AsyncIterator[SpaceRelationship]:
    """The stored relationships that a schema does not admit."""
    engine = RelationEngine(tree)
    async for part in view.everything():
        for each in part:
            if not admits(engine, as_relationship(each)):
                yield each


def admits(engine: RelationEngine, stored: Relationship) -> bool:
    """Whether a relationship has a meaning in an engine's schema."""
    try:
        engine.graph.validate(stored)
        engine.conditions.validate(stored.term, "condition")
    except InvalidArgument:
        return False
    return True


async def refuse_orphans(view: SpaceView, tree: Schema) -> None:
    """FailedPrecondition with how many relationships a schema does not admit, and the first of them."""
    count, first = 0, list[SpaceRelationship]()
    async for each in orphaned(view, tree):
        count += 1
        if count <= _SHOWN:
            first.append(each)
    if count:
        shown = [PreconditionViolation("RELATIONSHIP", str(each), "has no meaning in the new schema") for each in first]
        words = f"{count} stored relationships have no meaning in this schema, such as {first[0]}: delete them first"
        metadata = {"relationships": str(count), "shown": str(len(first))}
        raise FailedPrecondition(words, shown, reason="SCHEMA_ORPHANS_RELATIONSHIPS", metadata=metadata)
