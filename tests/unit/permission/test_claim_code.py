"""The code's file: read at each claim, and nothing where it would not do."""

from pathlib import Path

import pytest

from pyairtable_mesh.permission import claim_code
from pyairtable_mesh.permission.settings import PermissionSettings

CODE = "0123456789abcdefABCDEF-_"


async def test_a_file_that_is_replaced_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "code"
    read = claim_code.reader(str(file))
    assert await read() == ""
    file.write_text(f"{CODE}\n")
    assert await read() == CODE
    file.write_text(CODE[::-1])
    assert await read() == CODE[::-1]


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 129, b"with spaces in between it", b"\xff" * 32])
async def test_what_is_no_code_counts_as_none(tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "code").write_bytes(content)
    assert await claim_code.reader(str(tmp_path / "code"))() == ""
    assert "22 to 128" in caplog.text
    assert "short" not in caplog.text


async def test_by_default_there_is_none() -> None:
    assert await claim_code.reader(PermissionSettings().first_administrator_code_file)() == ""
