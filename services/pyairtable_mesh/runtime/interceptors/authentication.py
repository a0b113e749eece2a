"""Who calls: the verified token becomes the actor and tenant of the call, and of a stream for as long as it holds."""

import asyncio
import time
from collections.abc import Awaitable
from typing import Any

from pyairtable_mesh.runtime.errors import Unauthenticated
from pyairtable_mesh.runtime.interceptors.call import Call, Check, Gate, Method, Proceed, Wrapper
from pyairtable_mesh.runtime.tokens import Authenticator, Identity

_LOOK_SECONDS = 1.0
"""How soon a token is looked at again that holds by the leeway between two clocks alone."""


def authenticate(authenticator: Authenticator) -> Gate:
    """Verify the bearer token of every method that is not public; a public one takes none at all into account."""

    def check_of(method: Method) -> Check | None:
        return None if method.row is None or method.row.kind == "public" else check

    def check(call: Call) -> Awaitable[None] | None:
        header = call.context.authorization
        if not header:
            raise Unauthenticated("send a token: authorization: Bearer <token>", reason="TOKEN_MISSING")
        identity = authenticator.known(header)
        if identity is None:
            return verify(call, header)
        _identify(call, identity)
        return None

    async def verify(call: Call, header: str) -> None:
        _identify(call, await authenticator.verify(header))

    return Gate(check_of)


def outlive(authenticator: Authenticator) -> Wrapper:
    """End a stream, with `Unauthenticated`, once its caller's token would not let a new call in: it has expired, or its
    key was withdrawn. Unary calls end by their deadlines.
    """

    def intercept(method: Method, proceed: Proceed) -> Proceed:
        streaming = method.request_streaming or method.response_streaming
        if not streaming or method.row is None or method.row.kind == "public":
            return proceed

        async def run(call: Call) -> Any:
            try:
                async with asyncio.TaskGroup() as tasks:
                    trusting = tasks.create_task(_trust(authenticator, call.context.authorization))
                    answer = await proceed(call)
                    trusting.cancel()
                    return answer
            except BaseExceptionGroup as errors:
                # Of the two that may fail, whichever was first has ended the other.
                raise errors.exceptions[0] from None

        return run

    return intercept


async def _trust(authenticator: Authenticator, header: str) -> None:
    """Return never; raise what a new call with this header would get, as soon as it would not get in."""
    while True:
        identity = authenticator.known(header) or await authenticator.verify(header)
        await asyncio.sleep(max(_LOOK_SECONDS, identity.expires - time.time()))


def _identify(call: Call, identity: Identity) -> None:
    call.context.actor = identity.actor
    call.context.tenant_id = identity.tenant_id
