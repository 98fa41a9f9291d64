"""Gives the proxy its certificates: files that it reads when it starts, and changes at run time.

run_dir/certificates/<name>.pem   the chain and its key; `*` is written `_`
run_dir/certificates/list         those files, as the proxy reads them (crt-list)
run_dir/certified.map             the names, as plain HTTP is redirected for them
"""

import hashlib
import os
from pathlib import Path

from moorage.errors import ProxyFailed
from moorage.routing.admin import ask
from moorage.routing.haproxy_config import CERTIFICATES, CERTIFIED
from moorage.whole_file import replace_file

_LIST = "list"
_SUFFIX = ".pem"


class Certificates:
    """The certificates of one proxy. A name is a host, or `*.` and a domain."""

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._directory = run_dir / CERTIFICATES

    def installed(self) -> dict[str, str]:
        """Returns the SHA-256, in hex, of each name's PEM."""
        return {
            name: hashlib.sha256((self._directory / _file(name)).read_bytes()).hexdigest()
            for name in self._names()
        }

    async def install(self, name: str, pem: bytes) -> None:
        """Has visitors of `name` get this certificate, from the next connection on.

        `pem` is the chain, its own certificate first, and the key. Raises ProxyFailed.
        """
        path, file = f"{CERTIFICATES}/{_file(name)}", self._directory / _file(name)
        is_new = not file.exists()
        text = "\n".join(line for line in pem.decode("ascii").splitlines() if line.strip())
        if is_new:
            await ask(self._run_dir, f"new ssl cert {path}")
        told = await ask(self._run_dir, f"set ssl cert {path} <<\n{text}\n")
        if told is not None:
            told += await ask(self._run_dir, f"commit ssl cert {path}") or ""
            if "Success" not in told:
                raise ProxyFailed(f"The proxy does not take the certificate of {name}: {told}")
        self._directory.mkdir(mode=0o700, exist_ok=True)
        replace_file(file, pem)
        if is_new:
            await ask(self._run_dir, f"add ssl crt-list {CERTIFICATES}/{_LIST} {path}")
            await ask(self._run_dir, f"add map {CERTIFIED} {name} 1")

    async def remove(self, name: str) -> None:
        """Has visitors of `name` served over plain HTTP. Raises ProxyFailed."""
        path = f"{CERTIFICATES}/{_file(name)}"
        (self._directory / _file(name)).unlink(missing_ok=True)
        await ask(self._run_dir, f"del map {CERTIFIED} {name}")
        await ask(self._run_dir, f"del ssl crt-list {CERTIFICATES}/{_LIST} {path}")
        await ask(self._run_dir, f"del ssl cert {path}")

    def write_lists(self) -> None:
        """Writes what a proxy reads when it starts."""
        self._directory.mkdir(mode=0o700, exist_ok=True)
        names = self._names()
        files = [f"{CERTIFICATES}/{_file(name)}\n" for name in names]
        (self._directory / _LIST).write_text("".join(files))
        (self._run_dir / CERTIFIED).write_text("".join(f"{name} 1\n" for name in names))

    def _names(self) -> list[str]:
        try:
            files = os.listdir(self._directory)  # noqa: PTH208 (as in `router`)
        except FileNotFoundError:
            return []
        return [
            file.removesuffix(_SUFFIX).replace("_", "*")
            for file in files
            if file.endswith(_SUFFIX) and not file.startswith(".")
        ]


def _file(name: str) -> str:
    return name.replace("*", "_") + _SUFFIX
