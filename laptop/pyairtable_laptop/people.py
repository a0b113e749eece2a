"""Who and what is in the demo data. The ids are constants, so that printed and documented lines stay true."""

from dataclasses import dataclass

TENANT = "ten01m8473sshe2pag2k951980s3c"
WORKSPACE = "workspace:wsp01m8473sshe2pag2k9577hm3sa"
BASE = "base:app01m8473sshe2pag2k95awq2af0"
TABLE = "table:tbl01m8473sshe2pag2k95ed6tvnx"
GROUP_NAME = "Editors of the demo base"


@dataclass(frozen=True, slots=True)
class Person:
    """A demo user; `role` says in words what they may do."""

    name: str
    id: str
    given_name: str
    family_name: str
    role: str

    @property
    def resource_name(self) -> str:
        """``users/usr…``."""
        return f"users/{self.id}"

    @property
    def subject(self) -> str:
        """``user:usr…``."""
        return f"user:{self.id}"


ALICE = Person("alice", "usr01m8473sshe2pag2k9543gx0z1", "Alice", "Adams", "owner of the tenant")
BOB = Person("bob", "usr01m8473sshe2pag2k955fjyg6a", "Bob", "Baker", "editor of one base, through a group")
CAROL = Person("carol", "usr01m8473sshe2pag2k955k4m88t", "Carol", "Clark", "no role at all")
PEOPLE = (ALICE, BOB, CAROL)
BY_NAME = {person.name: person for person in PEOPLE}


def example(prefix: str) -> str:
    """An id of the demo data that begins with `prefix` (``usr`` or ``ten``)."""
    return TENANT if prefix == "ten" else ALICE.id
