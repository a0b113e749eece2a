"""Idempotency (AIP-155): a request that was answered before gets the same answer, and is not done again."""

import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

from pyairtable_mesh.runtime.context import RequestContext
from pyairtable_mesh.runtime.idempotency import Replayed
from pyairtable_mesh.runtime.interceptors.call import Call, Interceptor, Method, Proceed

Lookup = Callable[[RequestContext], Awaitable[bytes | None]]
"""The serialised answer that the request of this context was given before, if any."""


def replay(lookup: Lookup) -> Interceptor:
    """Look up unary requests that carry a `request_id`; a race that is lost inside ends in the winner's answer."""

    def intercept(method: Method, proceed: Proceed) -> Proceed:
        identified = "request_id" in method.descriptor.input_type.fields_by_name
        if method.row is None or method.request_streaming or not identified:
            return proceed
        parse = method.response_class.FromString

        async def run(call: Call) -> Any:
            request_id = call.request.request_id
            if not request_id:
                return await proceed(call)
            digest = hashlib.sha256(call.request.SerializeToString(deterministic=True)).digest()
            call.context.request_id = request_id
            call.context.request_digest = digest
            answer = await lookup(call.context)
            if answer is not None:
                return parse(answer)
            try:
                return await proceed(call)
            except Replayed as replayed:
                return parse(replayed.response)

        return run

    return intercept
