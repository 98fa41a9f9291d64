"""A certificate authority that speaks ACME (RFC 8555): a Caddy of the test's own, on loopback."""

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from moorage.gateway.platform import find_tool
from support.gateway.ports import quiet_port
from support.gateway.waiting import until


@dataclass
class AcmeAuthority:
    """It may be ended and run again; its root stays, and is in `root_file` once it has run."""

    directory: Path
    port: int
    resolver: str = ""  # address:port of a name server; with one, it also looks for TXT records

    @property
    def url(self) -> str:
        """Its directory's."""
        return f"https://localhost:{self.port}/acme/local/directory"

    @property
    def root_file(self) -> Path:
        return self.directory / "pki/authorities/local/root.crt"

    @contextlib.contextmanager
    def running(self, hosts: Mapping[str, str]) -> Iterator[None]:
        """Runs it; it finds these hosts, by name, at these addresses."""
        self.directory.mkdir(exist_ok=True)
        config, names = self.directory / "caddy.json", self.directory / "hosts"
        config.write_text(json.dumps(self._config()))
        lines = {"localhost": "127.0.0.1", **hosts}
        names.write_text("".join(f"{address} {name}\n" for name, address in lines.items()))
        script = f'mount --bind {names} /etc/hosts && exec "$@"'
        with (self.directory / "log").open("ab") as log:
            process = subprocess.Popen(
                [
                    *("unshare", "--mount", "sh", "-c", script, "sh"),
                    *(str(find_tool("caddy")), "run", "--config", str(config)),
                ],
                env=os.environ | {"HOME": str(self.directory)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            yield
        finally:
            process.terminate()
            process.wait(30)

    async def until_ready(self) -> None:
        """Waits for its directory."""

        async def answers() -> bool:
            try:
                async with (
                    aiohttp.ClientSession() as session,
                    session.get(self.url, ssl=False) as response,
                ):
                    return response.status == 200
            except aiohttp.ClientError:
                return False

        await until(answers)

    def _handler(self) -> dict[str, object]:
        handler: dict[str, object] = {"handler": "acme_server", "challenges": ["http-01"]}
        if not self.resolver:
            return handler
        return handler | {
            "challenges": ["http-01", "dns-01"],
            "resolvers": [f"udp/{self.resolver}"],
        }

    def _config(self) -> dict[str, object]:
        route = {
            "match": [{"host": ["localhost"]}],
            "handle": [self._handler()],
        }
        server = {
            "listen": [f"127.0.0.1:{self.port}"],
            "routes": [route],
            "automatic_https": {"disable_redirects": True},
        }
        own = {"subjects": ["localhost"], "issuers": [{"module": "internal"}]}
        return {
            "admin": {"disabled": True},
            "storage": {"module": "file_system", "root": str(self.directory)},
            "apps": {
                "pki": {"certificate_authorities": {"local": {"install_trust": False}}},
                "http": {"servers": {"authority": server}},
                "tls": {"automation": {"policies": [own]}},
            },
        }


def acme_authority(directory: Path) -> AcmeAuthority:
    """An authority that has not run yet."""
    return AcmeAuthority(directory, quiet_port())
