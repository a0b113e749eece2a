"""The installation's code for the first administrator, in a file that may be replaced while the service runs."""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

_MAX_BYTES = 1024
_CODE = re.compile(rb"[0-9A-Za-z_-]{22,128}")

_logger = logging.getLogger(__name__)


def reader(path: str) -> Callable[[], Awaitable[str]]:
    """Reads the code; what it gives is empty where there is none, or none that ClaimOwnership would take."""

    async def read() -> str:
        return await asyncio.to_thread(_read, Path(path)) if path else ""

    return read


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES).strip()
    except OSError as error:
        _logger.warning("the code for the first administrator cannot be read: %s", error.strerror)
        return ""
    if _CODE.fullmatch(content) is None:
        _logger.warning("the code for the first administrator is not 22 to 128 letters, digits, - and _")
        return ""
    return content.decode()
