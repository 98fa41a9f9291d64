"""Whether a container answers."""

import asyncio

import aiohttp

from support.engines.fake_kubernetes.resources import Manifest


async def succeeds(probe: Manifest, container: Manifest, address: str) -> bool:
    """Tries a TCP or HTTP probe once."""
    try:
        async with asyncio.timeout(probe["timeoutSeconds"]):
            if (http := probe.get("httpGet")) is not None:
                url = f"http://{address}:{port_of(http['port'], container)}{http.get('path', '/')}"
                async with aiohttp.ClientSession() as session, session.get(url) as answer:
                    return 200 <= answer.status < 400
            port = port_of(probe["tcpSocket"]["port"], container)
            _, writer = await asyncio.open_connection(address, port)
            writer.close()
            return True
    except (OSError, TimeoutError, aiohttp.ClientError):
        return False


def port_of(port: str | int, container: Manifest) -> int:
    """A container's port by its name or number."""
    if isinstance(port, int):
        return port
    ports = container.get("ports", [])
    return int(next(p["containerPort"] for p in ports if p.get("name") == port))
