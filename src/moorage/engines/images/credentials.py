"""The operator's credentials at registries, in the form of Docker's `config.json`."""

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from moorage.engines.images.reference import HUB
from moorage.errors import ConfigurationInvalid

_HUB_KEYS = (HUB, "https://index.docker.io/v1/", "index.docker.io")


class _Entry(msgspec.Struct):
    auth: str = ""
    username: str = ""
    password: str = ""


class _Config(msgspec.Struct):
    auths: dict[str, _Entry] = {}


class Credentials:
    """Name and password by registry."""

    def __init__(self, entries: Mapping[str, str]) -> None:
        self._entries = dict(entries)

    def of(self, registry: str) -> str:
        """Returns `name:password` in base64, as HTTP's Basic has it; "" for none."""
        keys = _HUB_KEYS if registry == HUB else (registry, f"https://{registry}")
        return next((found for key in keys if (found := self._entries.get(key))), "")

    def docker_config(self, registry: str) -> dict[str, Any]:
        """Returns the content of a config.json with the entry of one registry alone."""
        basic = self.of(registry)
        key = _HUB_KEYS[1] if registry == HUB else registry
        return {"auths": {key: {"auth": basic}} if basic else {}}


def read_credentials(path: Path | None) -> Credentials:
    """Reads a file such as `docker login` writes; None: there are none.

    Helpers that it names are not asked. Raises ConfigurationInvalid.
    """
    if path is None:
        return Credentials({})
    try:
        config = msgspec.json.decode(path.read_bytes(), type=_Config)
        return Credentials({host: _basic(entry) for host, entry in config.auths.items()})
    except (OSError, msgspec.DecodeError, binascii.Error, UnicodeDecodeError) as error:
        raise ConfigurationInvalid(
            f"the registry's credentials in {path} can't be read: {error}"
        ) from error


def _basic(entry: _Entry) -> str:
    if entry.username:
        return base64.b64encode(f"{entry.username}:{entry.password}".encode()).decode()
    base64.b64decode(entry.auth, validate=True).decode()
    return entry.auth
