"""Asks the API server whose token it is, and what its owner may do. Answers are kept, few of them and not for long."""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from kubernetes.aio import client

from pyairtable_operator.inventory import Caller
from pyairtable_operator.providers.kubernetes.client import translated

GROUP, RESOURCE = "mesh.pyairtable.io", "meshstatus"

_KEPT, _KEPT_SECONDS = 10_000, 10.0
_AT_ONCE = 16
_TIMEOUT_SECONDS = 4.0

_T = TypeVar("_T")


class TokenReviews:
    """TokenReview and SubjectAccessReview. A token is good only for `audience`: one for the API server is none here."""

    def __init__(self, api: client.ApiClient, audience: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.audience = audience
        self._authentication = client.AuthenticationV1Api(api)
        self._authorization = client.AuthorizationV1Api(api)
        self._accounts: _Kept[Caller | None] = _Kept(clock)
        self._rights: _Kept[bool] = _Kept(clock)
        self._asking = asyncio.Semaphore(_AT_ONCE)

    async def caller(self, token: str) -> Caller | None:
        """Return whose token it is, None when it is not a good one. Raises ApiError."""
        # The token itself is kept nowhere.
        key = hashlib.sha256(token.encode()).digest()
        found = self._accounts.get(key)
        if found is None:
            found = self._accounts.put(key, await self._review(token))
        return found[0]

    async def allows(self, caller: Caller, verb: str, namespace: str) -> bool:
        """Whether the caller may do it in a namespace, in all where it is empty. Raises ApiError."""
        key = (caller, verb, namespace)
        found = self._rights.get(key)
        if found is None:
            found = self._rights.put(key, await self._asked(caller, verb, namespace))
        return found[0]

    async def _review(self, token: str) -> Caller | None:
        review = client.V1TokenReview(spec=client.V1TokenReviewSpec(token=token, audiences=[self.audience]))
        async with self._asking:
            with translated():
                answer = await self._authentication.create_token_review(review, _request_timeout=_TIMEOUT_SECONDS)
        status = answer.status
        # An API server that knows no audiences leaves them out, and has not looked whom the token is for.
        if status is None or not status.authenticated or self.audience not in (status.audiences or ()):
            return None
        user = status.user or client.V1UserInfo()
        extra = tuple((name, tuple(values)) for name, values in sorted((user.extra or {}).items()))
        return Caller(user.username or "", user.uid or "", tuple(user.groups or ()), extra) if user.username else None

    async def _asked(self, caller: Caller, verb: str, namespace: str) -> bool:
        spec = client.V1SubjectAccessReviewSpec(
            user=caller.name,
            uid=caller.uid or None,
            groups=list(caller.groups),
            extra={name: list(values) for name, values in caller.extra},
            resource_attributes=client.V1ResourceAttributes(
                group=GROUP, resource=RESOURCE, verb=verb, namespace=namespace or None
            ),
        )
        async with self._asking:
            with translated():
                answer = await self._authorization.create_subject_access_review(
                    client.V1SubjectAccessReview(spec=spec), _request_timeout=_TIMEOUT_SECONDS
                )
        return bool(answer.status is not None and answer.status.allowed and not answer.status.denied)


class _Kept(Generic[_T]):
    """The last few answers, each in a tuple so that None is an answer, too."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._answers: OrderedDict[object, tuple[float, tuple[_T]]] = OrderedDict()

    def get(self, key: object) -> tuple[_T] | None:
        until, answer = self._answers.get(key, (0.0, None))
        return answer if self._clock() < until else None

    def put(self, key: object, value: _T) -> tuple[_T]:
        self._answers.pop(key, None)
        if len(self._answers) >= _KEPT:
            self._answers.popitem(last=False)
        answer = (value,)
        self._answers[key] = (self._clock() + _KEPT_SECONDS, answer)
        return answer
