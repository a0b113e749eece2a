"""Tokens: whose are taken, and why others are not."""

import base64
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from pyairtable_mesh.runtime.errors import Unauthenticated, Unavailable
from pyairtable_mesh.runtime.tokens import KNOWN_TOKENS, TRUST_SECONDS, Authenticator, KeyAccess, KeySet

USER, TENANT = "usr" + "0" * 26, "ten" + "0" * 26
ISSUER, WORKLOADS = "https://people.test", "https://workloads.test"
KEY, OTHER_KEY = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()


def jwks(path: Path, **keys: Ed25519PrivateKey) -> str:
    entries = []
    for key_id, key in keys.items():
        entry = json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(key.public_key()))
        entries.append({**entry, "kid": key_id, "alg": "EdDSA", "use": "sig"})
    path.write_text(json.dumps({"keys": entries}))
    return str(path)


def token(key: Ed25519PrivateKey = KEY, key_id: str = "one", **claims: Any) -> str:
    now = int(time.time())
    body = {"iss": ISSUER, "aud": "pyairtable", "sub": USER, "tenant": TENANT, "iat": now, "exp": now + 60, **claims}
    kept = {name: value for name, value in body.items() if value is not None}
    return "Bearer " + jwt.encode(kept, key, algorithm="EdDSA", headers={"kid": key_id})


@pytest.fixture
def authenticator(tmp_path: Path) -> Authenticator:
    keys = KeySet(jwks(tmp_path / "keys.json", one=KEY))
    return Authenticator(
        issuer=ISSUER,
        audience="pyairtable",
        keys=keys,
        trust_domain="mesh.test",
        workload_issuer=WORKLOADS,
        workload_keys=keys,
    )


async def test_a_users_token_names_user_and_tenant(authenticator: Authenticator) -> None:
    identity = await authenticator.verify(token())
    assert (identity.actor.kind, identity.actor.subject, identity.tenant_id) == ("user", f"user:{USER}", TENANT)


async def test_a_workloads_token_becomes_its_spiffe_id(authenticator: Authenticator) -> None:
    subject = "system:serviceaccount:platform:audit"
    header = token(iss=WORKLOADS, aud="mesh.test", sub=subject, tenant=None)
    identity = await authenticator.verify(header)
    assert identity.actor.subject == "spiffe://mesh.test/ns/platform/sa/audit"
    assert (identity.actor.workload, identity.tenant_id) == (("platform", "audit"), "")


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


NOW = int(time.time())
REFUSED: dict[str, tuple[Callable[[], str], str]] = {
    "no bearer": (lambda: "Basic abc", "TOKEN_INVALID"),
    "no token": (lambda: "Bearer nonsense", "TOKEN_INVALID"),
    "expired": (lambda: token(exp=NOW - 60), "TOKEN_EXPIRED"),
    "not yet": (lambda: token(nbf=NOW + 6000), "TOKEN_INVALID"),
    "without expiry": (lambda: token(exp=None), "TOKEN_INVALID"),
    "other audience": (lambda: token(aud="elsewhere"), "TOKEN_INVALID"),
    "other issuer": (lambda: token(iss="https://mallory.test"), "TOKEN_INVALID"),
    "unknown key": (lambda: token(key_id="two"), "TOKEN_INVALID"),
    "other key under a known id": (lambda: token(OTHER_KEY), "TOKEN_INVALID"),
    "no tenant": (lambda: token(tenant=None), "TOKEN_INVALID"),
    "a user's token as a workload": (lambda: token(iss=WORKLOADS, aud="mesh.test"), "TOKEN_INVALID"),
    "a workload's token for people": (lambda: token(sub="system:serviceaccount:a:audit"), "TOKEN_INVALID"),
    "deeply nested": (
        lambda: "Bearer " + ".".join([encoded(b'{"alg":"EdDSA"}'), encoded(b"[" * 5000), "AA"]),
        "TOKEN_INVALID",
    ),
    "unsigned": (lambda: "Bearer " + jwt.encode({"iss": ISSUER, "sub": USER}, None, algorithm="none"), "TOKEN_INVALID"),
}


@pytest.mark.parametrize(("make", "reason"), REFUSED.values(), ids=REFUSED.keys())
async def test_what_is_not_taken(authenticator: Authenticator, make: Callable[[], str], reason: str) -> None:
    header = make()
    with pytest.raises(Unauthenticated) as caught:
        await authenticator.verify(header)
    assert caught.value.reason == reason
    assert header.removeprefix("Bearer ") not in caught.value.message
    assert authenticator.known(header) is None


async def test_a_secret_key_of_the_verifier_is_no_signing_key(authenticator: Authenticator) -> None:
    public = json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(KEY.public_key()))["x"]
    forged = jwt.encode({"iss": ISSUER, "sub": USER}, public * 2, algorithm="HS256", headers={"kid": "one"})
    with pytest.raises(Unauthenticated):
        await authenticator.verify(f"Bearer {forged}")


async def test_a_verified_token_is_known_until_it_expires(
    authenticator: Authenticator, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = token()
    assert authenticator.known(header) is None
    identity = await authenticator.verify(header)
    assert authenticator.known(header) is identity
    monkeypatch.setattr(time, "time", lambda: NOW + 3600.0)
    assert authenticator.known(header) is None


async def test_what_is_remembered_is_bounded(authenticator: Authenticator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyairtable_mesh.runtime.tokens.KNOWN_TOKENS", 2)
    headers = [token(jti=str(number)) for number in range(3)]
    for header in headers:
        await authenticator.verify(header)
    assert [authenticator.known(header) is not None for header in headers] == [False, True, True]
    assert KNOWN_TOKENS > 2


async def test_a_rotated_key_is_found_without_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "keys.json"
    keys = KeySet(jwks(path, one=KEY))
    assert await keys.key("one") is not None
    jwks(path, one=KEY, two=OTHER_KEY)
    assert await keys.key("two") is None  # asked again too soon: a flood of odd tokens must not read the file each time
    monkeypatch.setattr("pyairtable_mesh.runtime.tokens.REFRESH_SECONDS", -1.0)
    assert await keys.key("two") is not None


@pytest.mark.parametrize("content", [None, "{", '{"keys": 1}', '{"keys": [{"kty": "?"}]}'])
async def test_keys_that_cannot_be_read_are_a_fault_of_ours(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "keys.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(Unavailable):
        await KeySet(str(path)).key("one")


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs for itself, and its key."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    begin = datetime.now(UTC) - timedelta(minutes=1)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "ca.crt", folder / "tls.key"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


@contextmanager
def api_server(folder: Path, document: bytes, token: str) -> Iterator[str]:
    """A server over TLS that gives the document to who shows the token; its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            allowed = self.headers["authorization"] == f"Bearer {token}"
            self.send_response(200 if allowed else 403)
            self.end_headers()
            self.wfile.write(document if allowed else b"{}")

        def log_message(self, *_: object) -> None:
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate(folder))
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"https://127.0.0.1:{server.server_port}/openid/v1/jwks"
        server.shutdown()
        thread.join()


async def test_an_api_servers_keys_are_read_with_the_pods_credentials(tmp_path: Path) -> None:
    jwks(tmp_path / "keys.json", one=KEY)
    document, token_file = (tmp_path / "keys.json").read_bytes(), tmp_path / "token"
    token_file.write_text("of-the-pod\n")
    with api_server(tmp_path, document, "of-the-pod") as url:
        authority = str(tmp_path / "ca.crt")
        assert await KeySet(url, KeyAccess(authority, str(token_file))).key("one") is not None
        for refused in (KeyAccess(authority), KeyAccess("", str(token_file))):
            with pytest.raises(Unavailable):
                await KeySet(url, refused).key("one")


async def test_a_withdrawn_key_is_not_trusted_for_long(
    authenticator: Authenticator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = token()
    await authenticator.verify(header)
    jwks(tmp_path / "keys.json", two=OTHER_KEY)
    began, clock = time.monotonic(), time.time()
    monkeypatch.setattr(time, "monotonic", lambda: began + TRUST_SECONDS + 1)
    assert authenticator.known(header) is not None
    monkeypatch.setattr(time, "time", lambda: clock + TRUST_SECONDS + 1)
    assert authenticator.known(header) is None
    monkeypatch.setattr(time, "time", lambda: clock)
    with pytest.raises(Unauthenticated):
        await authenticator.verify(header)


async def test_a_key_of_an_unknown_kind_does_not_spoil_the_others(tmp_path: Path) -> None:
    source = jwks(tmp_path / "keys.json", one=KEY)
    document = json.loads(Path(source).read_text())
    document["keys"][:0] = [{"kty": "FUTURE", "kid": "x"}, {"kty": "OKP", "crv": "X25519", "x": "AA", "kid": "y"}]
    Path(source).write_text(json.dumps(document))
    assert await KeySet(source).key("one") is not None


async def test_an_issuer_that_is_away_is_asked_once_a_second_and_its_keys_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "keys.json"
    keys = KeySet(str(source))
    with pytest.raises(Unavailable):
        await keys.key("one")
    jwks(source, one=KEY)
    with pytest.raises(Unavailable):
        await keys.key("one")
    began = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: began + 2)
    assert await keys.key("one") is not None
    source.unlink()
    monkeypatch.setattr(time, "monotonic", lambda: began + TRUST_SECONDS + 3)
    assert await keys.key("one") is not None
    with pytest.raises(Unavailable):
        await keys.key("two")
