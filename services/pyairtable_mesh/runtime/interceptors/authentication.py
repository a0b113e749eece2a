"""Who calls: the verified token becomes the actor and tenant of the call."""

from collections.abc import Awaitable

from pyairtable_mesh.runtime.errors import Unauthenticated
from pyairtable_mesh.runtime.interceptors.call import Call, Check, Gate, Method
from pyairtable_mesh.runtime.tokens import Authenticator, Identity


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


def _identify(call: Call, identity: Identity) -> None:
    call.context.actor = identity.actor
    call.context.tenant_id = identity.tenant_id
