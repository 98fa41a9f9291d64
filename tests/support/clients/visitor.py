"""A visitor of deployed apps, through the proxy, by name."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from support.gateway.gateway_fixture import DevGateway


@dataclass(frozen=True)
class Page:
    """What came back."""

    status: int
    text: str
    headers: Mapping[str, str]

    @property
    def kind(self) -> str:
        """The type of content, without its parameters."""
        return self.headers["Content-Type"].partition(";")[0]


def address(gateway: DevGateway, path: str = "/") -> str:
    """Where the proxy listens."""
    return f"http://127.0.0.1:{gateway.proxy_port}{path}"


def host(gateway: DevGateway, name: str) -> dict[str, str]:
    """The header that says which app is meant."""
    return {"Host": f"{name}.{gateway.info['base_domain']}"}


async def fetch(
    gateway: DevGateway,
    name: str,
    path: str = "/",
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    data: Any = None,
) -> Page:
    """One request; redirects are answers."""
    async with (
        aiohttp.ClientSession() as session,
        session.request(
            method,
            address(gateway, path),
            headers=host(gateway, name) | dict(headers or {}),
            data=data,
            allow_redirects=False,
        ) as response,
    ):
        return Page(response.status, await response.text(errors="replace"), response.headers)
