import stat
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from pyairtable_laptop import issuer, people
from pyairtable_laptop.folder import DataFolder
from pyairtable_mesh.runtime.errors import Unauthenticated
from pyairtable_mesh.runtime.tokens import Authenticator, KeySet


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    return DataFolder(tmp_path / "data")


def authenticator(folder: DataFolder) -> Authenticator:
    return Authenticator(
        issuer=issuer.ISSUER,
        audience=issuer.AUDIENCE,
        keys=KeySet(str(issuer.jwks_file(folder, "users"))),
        trust_domain=issuer.TRUST_DOMAIN,
        workload_issuer=issuer.WORKLOAD_ISSUER,
        workload_keys=KeySet(str(issuer.jwks_file(folder, "workloads"))),
    )


async def test_a_user_token_is_verified_by_the_runtime(folder: DataFolder) -> None:
    token = issuer.user_token(issuer.users(folder), people.ALICE.id, people.TENANT)
    identity = await authenticator(folder).verify(f"Bearer {token}")
    assert (identity.actor.kind, identity.actor.subject) == ("user", people.ALICE.subject)
    assert identity.tenant_id == people.TENANT


async def test_a_workload_token_is_verified_by_the_runtime(folder: DataFolder) -> None:
    token = issuer.workload_token(issuer.workloads(folder), "audit")
    identity = await authenticator(folder).verify(f"Bearer {token}")
    assert identity.actor.kind == "workload"
    assert identity.actor.subject == "spiffe://pyairtable.local/ns/pyairtable/sa/audit"


async def test_one_issuers_key_does_not_sign_for_the_other(folder: DataFolder) -> None:
    forged = issuer.Signer(issuer.WORKLOAD_ISSUER, issuer.TRUST_DOMAIN, issuer.users(folder).key)
    issuer.workloads(folder)
    with pytest.raises(Unauthenticated):
        await authenticator(folder).verify(f"Bearer {issuer.workload_token(forged, 'tenant')}")


def test_keys_are_made_once_and_are_their_owners_alone(folder: DataFolder) -> None:
    first, second = issuer.users(folder).public(), issuer.users(folder).public()
    assert first == second
    assert stat.S_IMODE((folder.keys / "users.pem").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.root.stat().st_mode) == 0o700


def test_a_broken_key_is_told_with_the_way_out(folder: DataFolder) -> None:
    issuer.users(folder)
    (folder.keys / "users.pem").write_text("garbage")
    with pytest.raises(click.ClickException, match="Remove it: a new one is made"):
        issuer.users(folder)


async def test_the_command_signs_for_a_demo_user_by_name(folder: DataFolder) -> None:
    result = CliRunner().invoke(issuer.main, ["token", "--user", "bob", "--data", str(folder.root)])
    identity = await authenticator(folder).verify(f"Bearer {result.stdout.strip()}")
    assert identity.actor.subject == people.BOB.subject


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--user", "mallory"], "alice, bob, carol"),
        (["--user", people.TENANT], "alice, bob, carol"),
        (["--user", "alice", "--tenant", "acme"], people.TENANT),
        (["--user", "alice", "--ttl", "0"], "--ttl"),
    ],
)
def test_the_command_says_what_it_wants(folder: DataFolder, arguments: list[str], words: str) -> None:
    result = CliRunner().invoke(issuer.main, ["token", *arguments, "--data", str(folder.root)])
    assert result.exit_code == 2
    assert words in result.stderr


def test_it_refuses_production(folder: DataFolder) -> None:
    arguments = ["token", "--user", "alice", "--data", str(folder.root)]
    result = CliRunner().invoke(issuer.main, arguments, env={"PYAIRTABLE_ENVIRONMENT": "production"})
    assert result.exit_code == 1
    assert "PYAIRTABLE_ENVIRONMENT is production" in result.stderr
    assert not folder.root.exists()


def test_the_command_lists_the_demo_users() -> None:
    result = CliRunner().invoke(issuer.main, ["users"])
    assert [line.split()[:2] for line in result.stdout.splitlines()] == [
        [person.name, person.id] for person in people.PEOPLE
    ]
