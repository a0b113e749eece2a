"""The tokens that a person has logged in with, in a file that nobody else can read."""

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import jwt

from pyairtable_mesh.meshctl.problems import Problem

TOKEN_VARIABLE = "PYAIRTABLE_TOKEN"  # noqa: S105 - a variable's name


@dataclass(frozen=True, slots=True)
class Token:
    """An access token, and what it says about itself; nothing of it is verified here."""

    text: str
    subject: str
    tenant: str
    expiry: datetime | None

    @classmethod
    def read(cls, text: str) -> "Token":
        """Read a JWT. Raises `Problem` for anything else."""
        try:
            claims = jwt.decode(text, options={"verify_signature": False})
            expiry = datetime.fromtimestamp(int(claims["exp"]), UTC) if "exp" in claims else None
        except (jwt.InvalidTokenError, ValueError, TypeError, OverflowError):
            words = "The token is not a JSON web token."
            raise Problem(words, f"meshctl login --user NAME, or put another one into {TOKEN_VARIABLE}") from None
        return cls(text, str(claims.get("sub", "")), str(claims.get("tenant", "")), expiry)

    def expired(self, now: datetime) -> bool:
        """Whether its time is up."""
        return self.expiry is not None and self.expiry <= now


@dataclass(frozen=True, slots=True)
class Kept:
    """The content of the file: tokens by the names that people have logged in with, and whose is used."""

    current: str
    tokens: Mapping[str, str]


class Credentials:
    """Where the tokens are: `PYAIRTABLE_TOKEN` first, then ``$XDG_CONFIG_HOME/pyairtable/credentials.json``."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        home = variables.get("XDG_CONFIG_HOME") or Path(variables.get("HOME") or Path.home()) / ".config"
        self.path = Path(home) / "pyairtable" / "credentials.json"
        self._given = variables.get(TOKEN_VARIABLE, "")

    @property
    def overridden(self) -> bool:
        """Whether `PYAIRTABLE_TOKEN` goes before what is kept."""
        return bool(self._given)

    def token(self, user: str = "") -> Token | None:
        """The token of a user who has logged in; without a name the one in use, None when there is none."""
        if self._given and not user:
            return Token.read(self._given)
        kept = self.load()
        text = kept.tokens.get(user or kept.current)
        if text is None and user:
            raise Problem(f"{user} has not logged in here.", f"meshctl login --user {user}")
        return Token.read(text) if text else None

    def keep(self, user: str, token: str) -> None:
        """Keep a token, and use it from now on."""
        self._save(Kept(user, {**self.load().tokens, user: token}))

    def forget(self, user: str = "") -> list[str]:
        """Forget a user's token, or all; the names whose tokens are gone."""
        kept = self.load()
        gone = [name for name in kept.tokens if user in {"", name}]
        left = {name: token for name, token in kept.tokens.items() if name not in gone}
        if gone:
            self._save(replace(kept, current="" if kept.current in gone else kept.current, tokens=left))
        return gone

    def load(self) -> Kept:
        """What the file holds; nothing when there is none. Raises `Problem` when it cannot be read."""
        try:
            content = json.loads(self.path.read_text())
            return Kept(str(content["current"]), {str(name): str(text) for name, text in content["tokens"].items()})
        except FileNotFoundError:
            return Kept("", {})
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            raise Problem(f"{self.path} cannot be read.", f"remove it (rm {self.path}) and log in again") from None

    def _save(self, kept: Kept) -> None:
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # mkstemp makes the file readable by its owner only, from the first byte on.
            handle, written = tempfile.mkstemp(dir=self.path.parent)
            with os.fdopen(handle, "w") as file:
                json.dump({"current": kept.current, "tokens": dict(kept.tokens)}, file, indent=2)
            Path(written).replace(self.path)
        except OSError:
            raise Problem(f"{self.path} cannot be written.", "look at the rights of its folder") from None
