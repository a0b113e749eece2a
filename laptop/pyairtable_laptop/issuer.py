"""The development issuer: signs the tokens that the auth service and a cluster will sign.

    python -m pyairtable_laptop.issuer token --user alice
    python -m pyairtable_laptop.issuer users

It refuses to work where PYAIRTABLE_ENVIRONMENT is `production`, and is in no release image.
"""

import base64
import hashlib
import json
import os
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import click
import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from pyairtable_laptop import people
from pyairtable_laptop.folder import DEFAULT, DataFolder, write_private
from pyairtable_mesh.runtime.ids import ID_PATTERN

ISSUER = "https://issuer.laptop.pyairtable.local"
WORKLOAD_ISSUER = "https://workloads.laptop.pyairtable.local"
AUDIENCE = "pyairtable"
TRUST_DOMAIN = "pyairtable.local"
NAMESPACE = "pyairtable"
USER_SECONDS = 12 * 3600
WORKLOAD_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs the tokens of one issuer for one audience, with its one key (EdDSA)."""

    issuer: str
    audience: str
    key: Ed25519PrivateKey

    def sign(self, subject: str, seconds: int, **claims: str) -> str:
        """A JWT that holds from now for `seconds`."""
        now = int(time.time())
        stated = {"iss": self.issuer, "aud": self.audience, "sub": subject, "iat": now, "exp": now + seconds}
        return jwt.encode(
            {**stated, "jti": uuid.uuid4().hex, **claims},
            self.key,
            algorithm="EdDSA",
            headers={"kid": self.public()["kid"]},
        )

    def public(self) -> dict[str, str]:
        """The public key as a JWK (RFC 8037); its id is its thumbprint (RFC 7638)."""
        raw = self.key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        members = {"crv": "Ed25519", "kty": "OKP", "x": _base64url(raw)}
        canonical = json.dumps(members, separators=(",", ":"), sort_keys=True).encode()
        return {**members, "alg": "EdDSA", "use": "sig", "kid": _base64url(hashlib.sha256(canonical).digest())}


def users(folder: DataFolder) -> Signer:
    """The signer of users' access tokens."""
    return Signer(ISSUER, AUDIENCE, _key(folder, "users"))


def workloads(folder: DataFolder) -> Signer:
    """The signer of workload tokens; the counterpart of a cluster's API server."""
    return Signer(WORKLOAD_ISSUER, TRUST_DOMAIN, _key(folder, "workloads"))


def user_token(signer: Signer, user: str, tenant: str, seconds: int = USER_SECONDS) -> str:
    """An access token of `user` (``usr…``) in `tenant` (``ten…``)."""
    return signer.sign(user, seconds, tenant=tenant)


def workload_token(signer: Signer, service: str, seconds: int = WORKLOAD_SECONDS) -> str:
    """A token of a service's account, as Kubernetes projects them into pods."""
    return signer.sign(f"system:serviceaccount:{NAMESPACE}:{service}", seconds)


def jwks_file(folder: DataFolder, name: str) -> Path:
    """The public keys of `users` or `workloads`."""
    return folder.keys / f"{name}.jwks.json"


def refuse_production() -> None:
    """click.ClickException in a production environment."""
    if os.environ.get("PYAIRTABLE_ENVIRONMENT") == "production":
        raise click.ClickException(
            "this is for development only, and PYAIRTABLE_ENVIRONMENT is production.\n"
            "In production the auth service signs tokens; on a laptop, unset PYAIRTABLE_ENVIRONMENT."
        )


def _key(folder: DataFolder, name: str) -> Ed25519PrivateKey:
    path = folder.keys / f"{name}.pem"
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        folder.make()
        content = Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        write_private(path, content)
    key = _read(path, content)
    jwks = json.dumps({"keys": [Signer("", "", key).public()]}).encode()
    if not (public := jwks_file(folder, name)).exists() or public.read_bytes() != jwks:
        write_private(public, jwks)
    return key


def _read(path: Path, content: bytes) -> Ed25519PrivateKey:
    try:
        key = serialization.load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise click.ClickException(
            f"{path} holds no Ed25519 key. Remove it: a new one is made, and the old one's tokens end."
        )
    return key


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@click.group()
def main() -> None:
    """Sign access tokens for development."""
    refuse_production()


@main.command()
@click.option("--user", required=True, help="A demo user's name (alice, bob, carol) or a user id (usr…).")
@click.option("--tenant", default=people.TENANT, help="Tenant id (ten…); without it the demo tenant.")
@click.option("--ttl", default=USER_SECONDS, type=click.IntRange(1, 30 * 86_400), help="Seconds that it holds.")
@click.option("--data", default=DEFAULT, type=click.Path(path_type=Path, file_okay=False), help="The data folder.")
def token(user: str, tenant: str, ttl: int, data: Path) -> None:
    """Print an access token."""
    person = people.BY_NAME.get(user)
    user_id = person.id if person else user
    for option, value, prefix in (("--user", user_id, "usr"), ("--tenant", tenant, "ten")):
        if not ID_PATTERN.fullmatch(value) or not value.startswith(prefix):
            known = f" or one of {', '.join(people.BY_NAME)}" if prefix == "usr" else ""
            raise click.BadParameter(f"give an id such as {people.example(prefix)}{known}", param_hint=option)
    click.echo(user_token(users(DataFolder(data)), user_id, tenant, ttl))


@main.command("users")
def list_users() -> None:
    """List the demo users."""
    for person in people.PEOPLE:
        click.echo(f"{person.name:<6} {person.id}  {people.TENANT}  {person.role}")


if __name__ == "__main__":
    main()
