"""A plain client of Kubernetes' API for tests, so that they see what the server says."""

import base64
import json
import ssl
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import aiohttp
import msgspec

from support.gateway.waiting import until

Manifest: TypeAlias = dict[str, Any]
"""An object as JSON."""

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"


class Refused(Exception):
    """The server's answer is an error."""

    def __init__(self, code: int, status: dict[str, Any]) -> None:
        super().__init__(f"{code} {status.get('reason')}: {status.get('message')}")
        self.code, self.status = code, status

    @property
    def reason(self) -> str:
        return str(self.status.get("reason"))

    @property
    def message(self) -> str:
        return str(self.status.get("message"))


@dataclass(frozen=True)
class KubernetesClient:
    """Sends requests to one server, with the credentials of a configuration file."""

    session: aiohttp.ClientSession

    async def answer(self, method: str, path: str, body: Any = None, **query: str) -> Any:
        """The object in the answer. Raises Refused."""
        return (await self.request(method, path, body, **query))[1]

    async def request(
        self, method: str, path: str, body: Any = None, *, kind: str = "", **query: str
    ) -> tuple[int, Any]:
        """Status and object of the answer. Raises Refused."""
        headers = {"Content-Type": kind or "application/json"}
        data = None if body is None else json.dumps(body)
        sent = self.session.request(method, path, data=data, params=query, headers=headers)
        async with sent as answer:
            text = await answer.text()
            if answer.status >= 400:
                status = json.loads(text) if text.startswith("{") else {"message": text}
                raise Refused(answer.status, status)
            return answer.status, json.loads(text) if text.startswith("{") else text

    async def apply(
        self, path: str, body: Any, *, manager: str = "moorage", force: bool = True
    ) -> tuple[int, Any]:
        query = {"fieldManager": manager} | ({"force": "true"} if force else {})
        return await self.request("PATCH", path, body, kind=APPLY, **query)

    async def merge(self, path: str, body: Any, *, manager: str = "moorage") -> Any:
        found = await self.request("PATCH", path, body, kind=MERGE, fieldManager=manager)
        return found[1]

    async def delete(self, path: str, **options: Any) -> Any:
        kinds = {"kind": "DeleteOptions", "apiVersion": "v1"}
        return await self.answer("DELETE", path, {**kinds, **options})

    async def has(self, path: str) -> bool:
        """Whether there is an object at an address."""
        try:
            await self.answer("GET", path)
        except Refused as refused:
            if refused.code != 404:
                raise
            return False
        return True

    async def until_gone(self, path: str) -> None:
        """Waits until there is no object at an address."""

        async def is_gone() -> bool:
            return not await self.has(path)

        await until(is_gone)

    @asynccontextmanager
    async def lines(self, path: str, **query: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """The lines of a stream, a followed log say, as they come. Raises Refused."""
        timeout = aiohttp.ClientTimeout(total=None)
        async with self.session.get(path, params=query, timeout=timeout) as answer:
            if answer.status >= 400:
                raise Refused(answer.status, await answer.json())
            yield aiter(answer.content)

    @asynccontextmanager
    async def watch(self, path: str, **query: str) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """The events of a watch."""
        async with self.lines(path, watch="true", **query) as lines:
            yield (json.loads(line) async for line in lines)


@asynccontextmanager
async def opened_client(kubeconfig: Path) -> AsyncIterator[KubernetesClient]:
    """A client for the first cluster and user of a configuration file."""
    config = msgspec.yaml.decode(kubeconfig.read_bytes(), type=dict[str, Any])
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    headers = {"Authorization": f"Bearer {user['token']}"} if "token" in user else {}
    connector = aiohttp.TCPConnector(ssl=_tls(cluster, user))
    async with aiohttp.ClientSession(
        cluster["server"], headers=headers, connector=connector
    ) as session:
        yield KubernetesClient(session)


def _tls(cluster: dict[str, str], user: dict[str, str]) -> ssl.SSLContext | bool:
    if not cluster["server"].startswith("https"):
        return True
    context = ssl.create_default_context(cadata=_text(cluster, "certificate-authority"))
    if "client-certificate-data" in user or "client-certificate" in user:
        names = ("client-certificate", "client-key")
        with tempfile.NamedTemporaryFile("w") as file:
            file.write("\n".join(_text(user, name) for name in names))
            file.flush()
            context.load_cert_chain(file.name)
    return context


def _text(section: dict[str, str], name: str) -> str:
    """A file of a configuration, that is in it or named by it."""
    if (data := section.get(f"{name}-data")) is not None:
        return base64.b64decode(data).decode()
    return Path(section[name]).read_text()


def name_of(path: str) -> str:
    """The name of the object at an address."""
    return path.rpartition("/")[2]


def namespace_at(path: str) -> Manifest:
    """The namespace with an address, without labels."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name_of(path)}}
