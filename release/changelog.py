"""The changelog: a section for each release, newest first, under `## <version>`; what is to come is `Unreleased`."""

import re
from datetime import date

UNRELEASED = "Unreleased"


def section(text: str, version: str) -> str:
    """What a section says, without its heading; ValueError when there is none or it says nothing."""
    found = re.search(rf"(?ms)^## {re.escape(version)}(?: [^\n]*)?\n(.*?)(?=^## |\Z)", text)
    if found is None or not found[1].strip():
        raise ValueError(f"CHANGELOG.md has no section `## {version}` that says anything")
    return found[1].strip() + "\n"


def close(text: str, version: str, day: date) -> str:
    """Make what is unreleased the section of a version, and begin anew; ValueError when nothing is unreleased."""
    section(text, UNRELEASED)
    return text.replace(f"## {UNRELEASED}\n", f"## {UNRELEASED}\n\n## {version} ({day.isoformat()})\n", 1)
