"""The schema's rules, before a servicer sees the request."""

from collections.abc import AsyncIterator
from typing import Any

from pyairtable_mesh.runtime.interceptors.call import Call, Check, Gate, Method
from pyairtable_mesh.runtime.validation import SchemaValidator


def validate(validator: SchemaValidator) -> Gate:
    """INVALID_ARGUMENT with one FieldViolation for each broken rule; every message of a request stream is checked."""

    async def checked(messages: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for message in messages:
            validator.check(message)
            yield message

    def check(call: Call) -> None:
        if call.requests is None:
            validator.check(call.request)
        else:
            call.requests = checked(call.requests)

    def check_of(method: Method) -> Check | None:
        return None if method.row is None else check

    return Gate(check_of)
