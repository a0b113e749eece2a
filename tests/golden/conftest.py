"""Golden files: text that a person reviews, beside the test that makes it."""

from collections.abc import Callable

import pytest

Golden = Callable[[str, str], None]


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """Compare text with a file beside the test, or write the file when pytest runs with `--update`."""
    update: bool = request.config.getoption("--update")

    def compare(name: str, text: str) -> None:
        path = request.path.with_name(name)
        if update:
            path.write_text(text)
        assert path.exists(), f"{path} is missing: run pytest with --update and review it"
        assert text == path.read_text(), f"{path} differs: run pytest with --update and review the difference"

    return compare
