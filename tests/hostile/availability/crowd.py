"""A program: two hundred addresses ask one gateway for prices until the input ends.

Prints the statuses that they were answered, and the seconds that half of the answers took at most.
"""

import asyncio
import base64
import json
import statistics
import sys
import time
from collections import Counter
from urllib.parse import urlsplit

ADDRESSES = [f"127.0.8.{number}" for number in range(1, 201)]
AT_ONCE = 2
APP = b"require('http').createServer().listen(process.env.PORT)\n"


def request(host: str, name: str) -> bytes:
    """An unsigned deploy without a payment."""
    files = [{"path": "index.js", "content": base64.b64encode(APP).decode()}]
    upload = {"type": "files", "files": files}
    body = json.dumps({"uniqueName": name, "displayName": name, "upload": upload})
    head = f"POST /deploy HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()


async def ask_on(host: str, address: str, statuses: Counter[str], took: list[float]) -> None:
    """Asks again and again, on one connection."""
    name, _, port = host.rpartition(":")
    reader, writer = await asyncio.open_connection(name, int(port), local_addr=(address, 0))
    asked = request(host, f"crowd-{address.replace('.', '-')}")
    while True:
        began = time.monotonic()
        writer.write(asked)
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        await reader.readexactly(int(head.partition("content-length:")[2].split()[0]))
        statuses[head.split()[1]] += 1
        took.append(time.monotonic() - began)


async def main(url: str) -> None:
    """Floods until the end of the input."""
    host, statuses, took = urlsplit(url).netloc, Counter[str](), list[float]()
    async with asyncio.TaskGroup() as tasks:
        crowd = [
            tasks.create_task(ask_on(host, address, statuses, took))
            for address in ADDRESSES
            for _ in range(AT_ONCE)
        ]
        await asyncio.to_thread(sys.stdin.read)
        for each in crowd:
            each.cancel()
    print(json.dumps({"statuses": statuses, "seconds": statistics.median(took)}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
