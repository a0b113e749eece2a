"""Bearer tokens: signed JWTs of people (RFC 9068) and of workloads (Kubernetes projected service-account tokens).

A verified token is remembered for some minutes, in a table of bounded size; the common path is one dictionary
look-up. Keys come from a JWKS (RFC 7517), a file or an http(s) URL, and are read again when a token names an unknown
key, and after some minutes in any case: a key that its issuer has withdrawn is not trusted for longer.
"""

import asyncio
import json
import logging
import ssl
import time
import urllib.request
from collections import OrderedDict
from contextlib import suppress
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
"""How soon an unknown key id may cause another look at the issuer's keys."""
TRUST_SECONDS = 300.0
"""How long keys, and tokens verified with them, are trusted before they are looked at again."""
MAX_JWKS_BYTES = 1 << 20
_SCHEME = "Bearer "
_SERVICE_ACCOUNT = "system:serviceaccount:"
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Identity:
    """What a verified token proves until `expires`, in seconds of the epoch; after that it is verified again."""

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
        self._away = False
        self._reading = asyncio.Lock()

    async def key(self, key_id: str) -> jwt.PyJWK | None:
        """The key with this id, None when the issuer has none; `Unavailable` when the issuer cannot be asked."""
        if self._source and self._is_due(key_id) and not (key_id in self._keys and self._reading.locked()):
            async with self._reading:
                if self._is_due(key_id):
                    await self._read()
        found = self._keys.get(key_id)
        if found is None and self._away:
            raise Unavailable("the token issuer's keys cannot be read", reason="DEPENDENCY_UNAVAILABLE")
        return found

    def _is_due(self, key_id: str) -> bool:
        return time.monotonic() - self._read_at > (TRUST_SECONDS if key_id in self._keys else REFRESH_SECONDS)

    async def _read(self) -> None:
        try:
            self._keys = await asyncio.to_thread(_read_keys, self._source, self._access)
            self._away = False
        except (OSError, ValueError, KeyError, TypeError) as error:
            self._away = True
            _logger.warning("the token issuer's keys cannot be read, those read before stay: %s", type(error).__name__)
        self._read_at = time.monotonic()


def _is_id(value: str, prefix: str) -> bool:
    return value.startswith(prefix) and ids.ID_PATTERN.fullmatch(value) is not None


def _read_keys(source: str, access: KeyAccess) -> dict[str, jwt.PyJWK]:
    online = source.startswith(("https://", "http://"))
    document = json.loads(_fetched(source, access) if online else Path(source).read_bytes())
    keys: dict[str, jwt.PyJWK] = {}
    for entry in document["keys"]:
        # RFC 7517, section 5: keys of a kind that is not understood are passed over.
        with suppress(jwt.PyJWTError):
            key = jwt.PyJWK(entry)
            if key.key_id:
                keys[key.key_id] = key
    if document["keys"] and not keys:
        raise ValueError("none of the keys is understood")
    return keys


def _fetched(url: str, access: KeyAccess) -> bytes:
    request = urllib.request.Request(url)  # noqa: S310 - the scheme was checked
    if access.token_file:
        request.add_unredirected_header("authorization", f"Bearer {Path(access.token_file).read_text().strip()}")
    trusted = ssl.create_default_context(cafile=access.authority_file or None)
    with urllib.request.urlopen(request, timeout=5, context=trusted) as answer:  # noqa: S310 - as above
        return bytes(answer.read(MAX_JWKS_BYTES))


def _until(claims: dict[str, Any]) -> float:
    return min(float(claims["exp"]), time.time() + TRUST_SECONDS)


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
        except (jwt.PyJWTError, RecursionError):  # the latter for JSON that is nested too deeply
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
        return Identity(Actor("user", f"user:{user}"), tenant, _until(claims))

    def _workload(self, claims: dict[str, Any]) -> Identity:
        namespace, _, name = str(claims["sub"]).removeprefix(_SERVICE_ACCOUNT).partition(":")
        if not claims["sub"].startswith(_SERVICE_ACCOUNT) or not namespace or not name:
            raise Unauthenticated("the token names no service account", reason="TOKEN_INVALID")
        spiffe_id = f"spiffe://{self._trust_domain}/ns/{namespace}/sa/{name}"
        return Identity(Actor("workload", spiffe_id), "", _until(claims))

    def _remember(self, header: str, identity: Identity) -> None:
        self._known[header] = identity
        if len(self._known) > KNOWN_TOKENS:
            self._known.popitem(last=False)
