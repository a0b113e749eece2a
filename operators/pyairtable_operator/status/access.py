"""Who may see the status, and of which namespaces.

In a cluster the API server decides: a TokenReview says whose token came with the call, a SubjectAccessReview whether
its owner may `get` `meshstatus` (API group mesh.pyairtable.io) in a namespace. Without an answer nobody may.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from pyairtable_mesh.runtime import errors
from pyairtable_operator.inventory import Caller, Reviews

GET = "get"
ALL_NAMESPACES = ""

_SCHEME = "bearer "

Visible = Callable[[str], bool]
"""Whether things of a namespace may be seen; of the empty one, those that belong to none."""


class Access:
    """Answers about the callers of one server. Without `reviews` everybody may see everything."""

    def __init__(self, reviews: Reviews | None = None) -> None:
        self._reviews = reviews

    async def visible(self, context: Any, namespaces: Iterable[str]) -> Visible:
        """Return which of these namespaces the caller may see.

        Raises Unauthenticated, PermissionDenied where it is none of them, Unavailable where nobody can say.
        """
        if self._reviews is None:
            return lambda _: True
        try:
            return await self._reviewed(self._reviews, context, {*namespaces} - {ALL_NAMESPACES})
        except OSError:
            words = "the API server can't be asked who may see the status; try again when it answers"
            raise errors.Unavailable(words, reason="DEPENDENCY_UNAVAILABLE") from None

    async def check(self, context: Any, namespaces: Iterable[str]) -> None:
        """Raise PermissionDenied unless the caller may see all of these namespaces; else as `visible`."""
        asked = {*namespaces}
        visible = await self.visible(context, asked)
        for namespace in sorted(asked):
            if not visible(namespace):
                raise _denied(f"namespace {namespace}" if namespace else "what belongs to no namespace")

    async def _reviewed(self, reviews: Reviews, context: Any, namespaces: set[str]) -> Visible:
        caller = await self._caller(reviews, context)
        if await reviews.allows(caller, GET, ALL_NAMESPACES):
            return lambda _: True
        asked = sorted(namespaces)
        answers = await asyncio.gather(*(reviews.allows(caller, GET, namespace) for namespace in asked))
        seen = frozenset(namespace for namespace, allowed in zip(asked, answers, strict=True) if allowed)
        if not seen:
            raise _denied("any namespace of the mesh that was asked for", caller.name)
        return seen.__contains__

    @staticmethod
    async def _caller(reviews: Reviews, context: Any) -> Caller:
        how = f"send one as `authorization: Bearer`; kubectl create token NAME --audience={reviews.audience} makes it"
        header = dict(context.invocation_metadata() or ()).get("authorization", "")
        if not isinstance(header, str) or not header.lower().startswith(_SCHEME):
            raise errors.Unauthenticated(f"the status of a cluster's mesh wants a token: {how}", reason="TOKEN_MISSING")
        caller = await reviews.caller(header[len(_SCHEME) :].strip())
        if caller is None:
            words = f"the token has expired, or is not one of this cluster for {reviews.audience}: {how}"
            raise errors.Unauthenticated(words, reason="TOKEN_INVALID")
        return caller


def _denied(what: str, name: str = "") -> errors.PermissionDenied:
    who = f"{name} may not" if name else "the caller may not"
    words = f"{who} `get` `meshstatus` (API group mesh.pyairtable.io) in {what}; a RoleBinding can allow it"
    return errors.PermissionDenied(words)
