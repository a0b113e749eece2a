from pyairtable_mesh.runtime import pagination
from pyairtable_mesh.runtime.database import Database


async def test_replicas_share_one_key(database: Database) -> None:
    first = await pagination.sealing_key(database)
    assert len(first) == 32
    assert await pagination.sealing_key(database) == first
