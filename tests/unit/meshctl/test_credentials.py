from datetime import UTC, datetime
from pathlib import Path

import pytest

from pyairtable_mesh.meshctl.credentials import Credentials, Kept, Token
from pyairtable_mesh.meshctl.problems import Problem
from tests.unit.meshctl.fakes import ALICE, NOW, TENANT, token

BOB = "usr01m8473sshe2pag2k955fjyg6a"


@pytest.fixture
def credentials(tmp_path: Path) -> Credentials:
    return Credentials({"XDG_CONFIG_HOME": str(tmp_path)})


def test_the_last_login_is_used_and_earlier_ones_are_kept(credentials: Credentials) -> None:
    credentials.keep("alice", token(ALICE))
    credentials.keep("bob", token(BOB))
    current, alice = credentials.token(), credentials.token("alice")
    assert current is not None
    assert alice is not None
    assert (current.subject, alice.subject, alice.tenant) == (BOB, ALICE, TENANT)


def test_nobody_else_can_read_the_file(credentials: Credentials) -> None:
    credentials.keep("alice", token())
    credentials.keep("alice", token())
    assert credentials.path.stat().st_mode & 0o777 == 0o600
    assert credentials.path.parent.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in credentials.path.parent.iterdir()] == ["credentials.json"]


def test_the_variable_goes_before_the_file(tmp_path: Path) -> None:
    credentials = Credentials({"XDG_CONFIG_HOME": str(tmp_path), "PYAIRTABLE_TOKEN": token(BOB)})
    credentials.keep("alice", token(ALICE))
    current, named = credentials.token(), credentials.token("alice")
    assert current is not None
    assert named is not None
    assert (current.subject, named.subject) == (BOB, ALICE)


def test_the_configuration_is_in_the_home_where_xdg_names_no_other() -> None:
    assert Credentials({"HOME": "/home/alice"}).path == Path("/home/alice/.config/pyairtable/credentials.json")


def test_without_a_login_there_is_no_token(credentials: Credentials) -> None:
    assert credentials.token() is None
    with pytest.raises(Problem, match=r"bob has not logged in here\."):
        credentials.token("bob")


def test_forgetting(credentials: Credentials) -> None:
    assert credentials.forget() == []
    for user in ("alice", "bob", "carol"):
        credentials.keep(user, token())
    assert credentials.forget("alice") == ["alice"]
    assert credentials.load().current == "carol"
    assert credentials.forget() == ["bob", "carol"]
    assert credentials.load() == Kept("", {})


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"current": "a", "tokens": []}', "\x00"])
def test_a_spoilt_file_is_told(credentials: Credentials, content: str) -> None:
    credentials.path.parent.mkdir(parents=True)
    credentials.path.write_text(content)
    with pytest.raises(Problem, match=r"credentials\.json cannot be read\."):
        credentials.token()


@pytest.mark.parametrize("text", ["", "rubbish", "a.b.c", "Bearer x"])
def test_what_is_no_token_is_told(text: str) -> None:
    with pytest.raises(Problem, match=r"The token is not a JSON web token\."):
        Token.read(text)


def test_a_token_expires_at_its_time() -> None:
    expiry = datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert Token.read(token(expiry=expiry)).expired(NOW)
    assert not Token.read(token()).expired(NOW)
