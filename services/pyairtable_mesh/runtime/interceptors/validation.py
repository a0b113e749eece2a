"""The schema's rules, before a servicer sees the request."""

from collections.abc import AsyncIterator
from typing import Any

from pyairtable_mesh.runtime.interceptors.call import Call, Interceptor, Method, Proceed
from pyairtable_mesh.runtime.validation import SchemaValidator


def validate(validator: SchemaValidator) -> Interceptor:
    """INVALID_ARGUMENT with one FieldViolation for each broken rule; every message of a request stream is checked."""

    async def checked(messages: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for message in messages:
            validator.check(message)
            yield message

    def intercept(method: Method, proceed: Proceed) -> Proceed:
        if method.row is None:
            return proceed

        async def run(call: Call) -> Any:
            if call.requests is None:
                validator.check(call.request)
            else:
                call.requests = checked(call.requests)
            return await proceed(call)

        return run

    return intercept
