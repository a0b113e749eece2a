from pyairtable_mesh.runtime.database import Database


async def test_a_fresh_database_answers(database: Database) -> None:
    await database.ping()
