"""Idempotency (AIP-155): a request that was answered before gets the same answer, and is not done again."""

import hashlib
from typing import Any

from pyairtable_mesh.runtime.idempotency import Replayed
from pyairtable_mesh.runtime.interceptors.call import Call, Method, Proceed


def replay(method: Method, proceed: Proceed) -> Proceed:
    """Have unary requests that carry a `request_id` known to the database, which raises `Replayed` in their use case:
    to look before would cost every change a snapshot of its own.
    """
    identified = "request_id" in method.descriptor.input_type.fields_by_name
    if method.row is None or method.request_streaming or not identified:
        return proceed
    parse = method.response_class.FromString

    async def run(call: Call) -> Any:
        request_id = call.request.request_id
        if not request_id:
            return await proceed(call)
        call.context.request_id = request_id
        call.context.request_digest = hashlib.sha256(call.request.SerializeToString(deterministic=True)).digest()
        try:
            return await proceed(call)
        except Replayed as replayed:
            return parse(replayed.response)

    return run
