"""What runs at which address, as far as a provider knows: what the source of a connection proves about a client."""

import asyncio
from collections.abc import Mapping

from pyairtable_operator.model import Workload


class Workloads:
    """The newest state, unknown until a provider has put it in. Belongs to one event loop."""

    def __init__(self) -> None:
        self._by_address: Mapping[str, Workload] | None = None
        self._changed = asyncio.Event()

    def replace(self, by_address: Mapping[str, Workload]) -> None:
        """Put in a new state: workloads by IP address, each address of one workload alone."""
        self._by_address = by_address
        self._changed.set()
        self._changed = asyncio.Event()

    async def at(self, address: str, seconds: float) -> Workload | None:
        """Return what runs at an address, None when it is not known `seconds` after the first state was.

        A pod may call before the API server has told its address.
        """
        while self._by_address is None:
            await self._changed.wait()
        try:
            async with asyncio.timeout(seconds):
                while address not in self._by_address:
                    await self._changed.wait()
        except TimeoutError:
            return None
        return self._by_address[address]
