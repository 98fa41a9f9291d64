"""The settings as an operator may be shown them, and as they are recorded: without secrets."""

import hashlib
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from moorage.chains.settings import ChainSettings
from moorage.settings.settings import Settings

OF_ONE_GATEWAY = frozenset({"gateway_name", "operator_port"})
"""Settings that gateways of one configuration file have each for themselves."""

_OF_ITS_PLACE = frozenset(
    {
        "data_dir",
        "host",
        "operator_host",
        "port",
        "proxy_host",
        "proxy_port",
        "run_dir",
        "secrets_key_file",
    }
)
"""Settings in which gateways on one database may differ: recorded under the gateway's name."""

_SECRET = frozenset(
    {
        *("database_url", "screening_command", "screening_url", "build_env"),
        *("acme_eab_hmac_key", "acme_dns_hook"),
    }
)
_CHAIN = "chains."
_OWN = ": "


def described(settings: Settings) -> dict[str, Any]:
    """Returns each setting's value by name, a chain as `chains.<name>`.

    What is or may hold a secret is told by its fingerprint: the same for the same secret.
    """
    values = {
        name: _hidden(value) if name in _SECRET else value
        for name, value in msgspec.structs.asdict(settings).items()
        if name != "chains"
    }
    chains = {f"{_CHAIN}{name}": _chain(name, each) for name, each in settings.chains.items()}
    builtins: dict[str, Any] = msgspec.to_builtins(values | chains)
    return builtins


def recorded(settings: Settings) -> dict[str, str]:
    """Returns what a start records of the settings: their values as JSON.

    Of a named gateway, those of its place are called as in "two: port".
    """
    own = f"{settings.gateway_name}{_OWN}" if settings.gateway_name else ""
    return {
        own * (name in _OF_ITS_PLACE) + name: msgspec.json.encode(value, order="sorted").decode()
        for name, value in described(settings).items()
        if name not in OF_ONE_GATEWAY
    }


def of_another(setting: str, settings: Settings) -> bool:
    """Returns whether what is recorded under this name is another gateway's than of `settings`."""
    gateway, own, _ = setting.rpartition(_OWN)
    return bool(own) and gateway != settings.gateway_name


def chain_named(setting: str) -> str | None:
    """Returns the name of the chain that a setting of `described` is; None for any other."""
    return setting.removeprefix(_CHAIN) if setting.startswith(_CHAIN) else None


def _chain(name: str, settings: ChainSettings) -> Mapping[str, object]:
    chain = settings.chain(name)
    return msgspec.structs.asdict(chain) | {"rpc_urls": [_node(url) for url in chain.rpc_urls]}


def _node(url: str) -> str:
    """Returns a node's host; the rest of its URL is often its owner's key."""
    return f"{urlsplit(url).netloc.rpartition('@')[2]} {_fingerprint(url)}"


def _hidden(value: Any) -> Any:
    match value:
        case str():
            return _fingerprint(value) if value else ""
        case dict():
            return {key: _hidden(item) for key, item in value.items()}
    return [_hidden(item) for item in value]


def _fingerprint(secret: str) -> str:
    return f"[hidden {hashlib.sha256(secret.encode()).hexdigest()[:8]}]"
