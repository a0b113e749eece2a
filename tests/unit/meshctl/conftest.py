"""Fake programs for every test of this folder that asks for them."""

from pathlib import Path

import pytest

from tests.unit.meshctl.programs import Programs, put_on_path


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    """Fake `helm` and `kubectl`, alone on PATH."""
    return put_on_path(tmp_path, monkeypatch)
