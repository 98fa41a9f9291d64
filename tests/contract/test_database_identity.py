"""Databases of a server are told apart, by what a role without privileges may ask."""

import asyncio
import gc

import asyncpg

from moorage.storage.opening import open_database
from moorage.storage.several.cluster import identity
from support.books.postgres_fixture import PostgresServer


async def identity_of(url: str) -> str:
    db = open_database(url)
    try:
        return await identity(db)
    finally:
        db.close()
        await asyncio.sleep(0)  # a closed connection's transport is done in the loop's next turn
        gc.collect()


async def test_identity_is_one_for_all_of_a_database_and_another_for_its_copy(
    postgres_server: PostgresServer,
) -> None:
    books = postgres_server.create(is_open=True)
    copied = postgres_server.create(template=books, is_open=True)
    connection = await asyncpg.connect(postgres_server.url(books))
    await connection.execute("CREATE ROLE plain LOGIN")
    await connection.close()
    url = postgres_server.url(books)
    found = await identity_of(url)
    assert await identity_of(url.replace("moorage@", "plain@")) == found
    assert await identity_of(postgres_server.url(copied)) != found
    assert all(part.isdigit() for part in found.split("/"))
