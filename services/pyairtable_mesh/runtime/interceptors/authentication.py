"""Who calls: the verified token becomes the actor and tenant of the call."""

from typing import Any

from pyairtable_mesh.runtime.errors import Unauthenticated
from pyairtable_mesh.runtime.interceptors.call import Call, Interceptor, Method, Proceed
from pyairtable_mesh.runtime.tokens import Authenticator


def authenticate(authenticator: Authenticator) -> Interceptor:
    """Verify the bearer token of every method that is not public; a public one takes none at all into account."""

    def intercept(method: Method, proceed: Proceed) -> Proceed:
        if method.row is None or method.row.kind == "public":
            return proceed

        async def run(call: Call) -> Any:
            header = call.context.authorization
            if not header:
                raise Unauthenticated("send a token: authorization: Bearer <token>", reason="TOKEN_MISSING")
            identity = authenticator.known(header) or await authenticator.verify(header)
            call.context.actor = identity.actor
            call.context.tenant_id = identity.tenant_id
            return await proceed(call)

        return run

    return intercept
