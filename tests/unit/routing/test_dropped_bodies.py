"""Bodies that nobody wants, from visitors who do not end."""

import asyncio

from starlette.requests import Request
from starlette.types import Message

from moorage.routing.pages import (
    MAX_BODIES,
    MAX_BODIES_PER_VISITOR,
    MAX_BODY_BYTES,
    DroppedBodies,
)


def visitor(address: str) -> str | None:
    return address or None


async def never() -> Message:
    await asyncio.Event().wait()
    raise AssertionError


async def drops(
    bodies: DroppedBodies, times: int, *, address: str = ""
) -> list[asyncio.Task[None]]:
    """Bodies of which nothing comes."""
    scope = {"type": "http", "method": "POST", "headers": [(b"x-real-ip", address.encode())]}
    tasks = [asyncio.create_task(bodies.drop(Request(scope, never))) for _ in range(times)]
    await asyncio.sleep(0)
    return tasks


async def ended(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_one_visitor_has_some_and_the_rest_are_not_waited_for() -> None:
    bodies = DroppedBodies(visitor)
    held = await drops(bodies, MAX_BODIES_PER_VISITOR, address="203.0.113.1")
    assert not any(task.done() for task in held)
    (further,) = await drops(bodies, 1, address="203.0.113.1")
    assert further.done()
    held += await drops(bodies, 1, address="203.0.113.2")
    assert not held[-1].done()
    await ended(held)
    (again,) = await drops(bodies, 1, address="203.0.113.1")
    assert not again.done()
    await ended([again])


async def test_all_visitors_together_leave_connections_to_others() -> None:
    bodies = DroppedBodies(visitor)
    held = await drops(bodies, MAX_BODIES)
    (further,) = await drops(bodies, 1, address="203.0.113.1")
    assert further.done()
    await ended(held)


async def test_endless_body_is_not_read_to_its_end() -> None:
    received = 0

    async def piece() -> Message:
        nonlocal received
        received += 1024 * 1024
        return {"type": "http.request", "body": bytes(1024 * 1024), "more_body": True}

    scope = {"type": "http", "method": "POST", "headers": [(b"x-real-ip", b"")]}
    await DroppedBodies(visitor).drop(Request(scope, piece))
    assert MAX_BODY_BYTES < received <= MAX_BODY_BYTES + 1024 * 1024
