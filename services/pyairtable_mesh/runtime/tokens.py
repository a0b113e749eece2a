"""Bearer tokens: signed JWTs of people (RFC 9068) and of workloads (Kubernetes projected service-account tokens).

A token is verified once and remembered until it expires, in a table of bounded size; the common path is one
dictionary look-up. Keys come from a JWKS (RFC 7517), a file or an http(s) URL, and are read again when a token names
an unknown key.
"""

import asyncio
import json
import ssl
import time
import urllib.request
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt

from pyairtable_mesh.runtime import ids
from pyairtable_mesh.runtime.context import Actor
from pyairtable_mesh.runtime.errors import Unauthenticated, Unavailable

ALGORITHMS = ("EdDSA", "ES256", "RS256")
"""Asymmetric only: a service can verify, and never sign."""
KNOWN_TOKENS = 10_000
LEEWAY_SECONDS = 5
REFRESH_SECONDS = 1.0
MAX_JWKS_BYTES = 1 << 20
_SCHEME = "Bearer "
_SERVICE_ACCOUNT = "system:serviceaccount:"


@dataclass(frozen=True, slots=True)
class Identity:
    """What a verified token proves; `expires` is in seconds of the epoch."""

    actor: Actor
    tenant_id: str
    expires: float


@dataclass(frozen=True, slots=True)
class KeyAccess:
    """How to reach keys that are not public, as an API server's are: files with the authority that signs for it, and
    with a bearer token; both are read each time, for both are renewed. Empty where none is needed.
    """

    authority_file: str = ""
    token_file: str = ""


PUBLIC = KeyAccess()


class KeySet:
    """The keys of one issuer, by key id. `source` is a file's path or an http(s) URL; empty means no keys."""

    def __init__(self, source: str, access: KeyAccess = PUBLIC) -> None:
        self._source = source
        self._access = access
        self._keys: dict[str, jwt.PyJWK] = {}
        self._read_at = float("-inf")
        self._reading = asyncio.Lock()

    async def key(self, key_id: str) -> jwt.PyJWK | None:
        """The key with this id; the source is read again, at most once a second, when it is not known."""
        if key_id not in self._keys and self._source:
            async with self._reading:
                if key_id not in self._keys and time.monotonic() - self._read_at > REFRESH_SECONDS:
                    self._keys = await asyncio.to_thread(_read_keys, self._source, self._access)
                    self._read_at = time.monotonic()
        return self._keys.get(key_id)


def _is_id(value: str, prefix: str) -> bool:
    return value.startswith(prefix) and ids.ID_PATTERN.fullmatch(value) is not None


def _read_keys(source: str, access: KeyAccess) -> dict[str, jwt.PyJWK]:
    try:
        if source.startswith(("https://", "http://")):
            document = json.loads(_fetched(source, access))
        else:
            document = json.loads(Path(source).read_bytes())
        keys = [jwt.PyJWK(entry) for entry in document["keys"]]
    except (OSError, ValueError, KeyError, TypeError, jwt.PyJWTError):
        raise Unavailable("the token issuer's keys cannot be read", reason="DEPENDENCY_UNAVAILABLE") from None
    return {key.key_id: key for key in keys if key.key_id}


def _fetched(url: str, access: KeyAccess) -> bytes:
    request = urllib.request.Request(url)  # noqa: S310 - the scheme was checked
    if access.token_file:
        request.add_unredirected_header("authorization", f"Bearer {Path(access.token_file).read_text().strip()}")
    trusted = ssl.create_default_context(cafile=access.authority_file or None)
    with urllib.request.urlopen(request, timeout=5, context=trusted) as answer:  # noqa: S310 - as above
        return bytes(answer.read(MAX_JWKS_BYTES))


class Authenticator:
    """Verifies tokens of two issuers: people's (for `audience`) and workloads' (for the trust domain)."""

    def __init__(
        self,
        *,
        issuer: str,
        audience: str,
        keys: KeySet,
        trust_domain: str,
        workload_issuer: str,
        workload_keys: KeySet,
    ) -> None:
        self._issuer = issuer
        self._audience = audience
        self._keys = keys
        self._trust_domain = trust_domain
        self._workload_issuer = workload_issuer
        self._workload_keys = workload_keys
        self._known: OrderedDict[str, Identity] = OrderedDict()

    def known(self, header: str) -> Identity | None:
        """The identity of a header that was verified before and has not expired."""
        identity = self._known.get(header)
        if identity is not None and identity.expires <= time.time():
            del self._known[header]
            return None
        return identity

    async def verify(self, header: str) -> Identity:
        """Verify ``Bearer <token>``; `Unauthenticated` says what is wrong, without any part of the token."""
        if not header.startswith(_SCHEME):
            raise Unauthenticated("the authorization header is not a bearer token", reason="TOKEN_INVALID")
        token = header.removeprefix(_SCHEME)
        try:
            stated = jwt.decode(token, options={"verify_signature": False}).get("iss")
            key_id = str(jwt.get_unverified_header(token).get("kid", ""))
            if stated == self._workload_issuer:
                identity = self._workload(await self._claims(token, key_id, self._workload_keys, self._trust_domain))
            elif stated == self._issuer:
                identity = self._user(await self._claims(token, key_id, self._keys, self._audience))
            else:
                raise Unauthenticated("the token is of an issuer that is not trusted here", reason="TOKEN_INVALID")
        except jwt.ExpiredSignatureError:
            raise Unauthenticated("the token has expired; log in again", reason="TOKEN_EXPIRED") from None
        except jwt.PyJWTError:
            raise Unauthenticated("the token is not valid", reason="TOKEN_INVALID") from None
        self._remember(header, identity)
        return identity

    async def _claims(self, token: str, key_id: str, keys: KeySet, audience: str) -> dict[str, Any]:
        key = await keys.key(key_id)
        if key is None:
            raise Unauthenticated("the token is signed with an unknown key", reason="TOKEN_INVALID")
        return jwt.decode(
            token,
            key,
            algorithms=ALGORITHMS,
            audience=audience,
            leeway=LEEWAY_SECONDS,
            options={"require": ["exp", "iat", "iss", "sub", "aud"]},
        )

    def _user(self, claims: dict[str, Any]) -> Identity:
        user, tenant = str(claims["sub"]), str(claims.get("tenant", ""))
        if not _is_id(user, "usr") or not _is_id(tenant, "ten"):
            raise Unauthenticated("the token names no user of a tenant", reason="TOKEN_INVALID")
        return Identity(Actor("user", f"user:{user}"), tenant, float(claims["exp"]))

    def _workload(self, claims: dict[str, Any]) -> Identity:
        namespace, _, name = str(claims["sub"]).removeprefix(_SERVICE_ACCOUNT).partition(":")
        if not claims["sub"].startswith(_SERVICE_ACCOUNT) or not namespace or not name:
            raise Unauthenticated("the token names no service account", reason="TOKEN_INVALID")
        spiffe_id = f"spiffe://{self._trust_domain}/ns/{namespace}/sa/{name}"
        return Identity(Actor("workload", spiffe_id), "", float(claims["exp"]))

    def _remember(self, header: str, identity: Identity) -> None:
        self._known[header] = identity
        if len(self._known) > KNOWN_TOKENS:
            self._known.popitem(last=False)
