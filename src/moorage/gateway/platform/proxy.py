"""Opens the proxy in front of apps, from settings."""

import secrets
import shutil
import ssl
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import structlog

from moorage.deploy.addresses.hosts import Hosts
from moorage.engines.engine import Engine
from moorage.routing.access_log import AccessLog
from moorage.routing.haproxy import ACCESS_LOGS, HAProxy
from moorage.routing.haproxy_config import Api, ProxySettings
from moorage.routing.probe import answers
from moorage.settings import Settings

log = structlog.get_logger()

LOOPBACK = "127.0.0.1"
EVERYWHERE = ("", "0.0.0.0", "::")  # noqa: S104 (compared, not bound)
_MIB = 1024 * 1024
_HTTP_PORT = 80
_HTTPS_PORT = 443
_ANSWER_SECONDS = 30.0  # a host's first certificate takes a while
_PLAIN_SECONDS = 10.0

_VISITOR_CONNECTIONS = 512
"""That one address may have at the proxy, and a /48 four times as many: several browsers behind one
address open some tens each."""


@dataclass(frozen=True, kw_only=True)
class Proxy:
    """A running proxy of this gateway's."""

    process: HAProxy
    address: str  # where it is reached from this machine
    access_log: AccessLog
    probe_token: str  # marks our own requests in the access log, which are no visits
    roots: tuple[Path, ...] = ()  # of authorities that are trusted beside the system's


async def open_proxy(
    stack: AsyncExitStack,
    settings: Settings,
    *,
    binary: Path,
    engine: Engine,
    directory: Path,
    gateway_url: str,
    stop_apps: bool,
) -> tuple[Proxy, int]:
    """Opens the proxy, whose routes are in `directory`; returns it and its HTTP port.

    Raises ProxyFailed, ConfigurationInvalid. It goes on after the gateway, unless `stop_apps`.
    """
    state_dir, probe_token = Path(settings.data_dir) / "proxy", secrets.token_hex(16)
    process = HAProxy(
        binary,
        proxy_settings(settings, state_dir, directory, gateway_url),
        confine=partial(_confine, engine, _memory_bytes(settings)),
    )
    port = await process.start()
    if stop_apps:
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        stack.push_async_callback(process.stop)
    proxy = Proxy(
        process=process,
        address=LOOPBACK if settings.proxy_host in EVERYWHERE else settings.proxy_host,
        access_log=AccessLog(state_dir / ACCESS_LOGS, probe_token=probe_token),
        probe_token=probe_token,
        roots=settings.roots,
    )
    return proxy, port


def served_at(settings: Settings, proxy_port: int) -> int:
    """Returns the port that visitors of apps use, of a proxy with this HTTP port."""
    return _HTTPS_PORT if settings.tls else proxy_port


def hosts_of(settings: Settings, proxy_port: int) -> Hosts:
    """Returns the apps' hosts, which are served at a port."""
    port = None if settings.tls or proxy_port == _HTTP_PORT else proxy_port
    return Hosts(
        base_domain=settings.base_domain,
        scheme="https" if settings.tls else "http",
        port=port,
        former_domains=settings.former_domains,
    )


def trusted_proxies(settings: Settings) -> tuple[str, ...]:
    """Returns the proxies whose X-Forwarded-For is trusted: the operator's, and our own."""
    if _api_behind_proxy(settings, settings.public_url) is None:
        return settings.trusted_proxies
    return (*settings.trusted_proxies, f"{LOOPBACK}/32")


def answers_at(
    proxy: Proxy, *, port: int, https: bool, seconds: float = _ANSWER_SECONDS
) -> Callable[[str], Awaitable[bool]]:
    """Returns a question whether a host answers through the proxy, at a port of its own."""
    tls = _trust(proxy.roots) if https else None

    async def answers_there(host: str) -> bool:
        return await answers(
            port,
            host,
            timeout_seconds=seconds,
            address=proxy.address,
            tls=tls,
            token=proxy.probe_token,
        )

    return answers_there


def answers_plain(proxy: Proxy) -> Callable[[str], Awaitable[bool]]:
    """Returns the same question of a host without a certificate, at the port for plain HTTP."""
    return answers_at(proxy, port=_HTTP_PORT, https=False, seconds=_PLAIN_SECONDS)


def _trust(roots: Iterable[Path]) -> ssl.SSLContext:
    tls = ssl.create_default_context()
    for root in roots:
        tls.load_verify_locations(root)
    return tls


def _memory_bytes(settings: Settings) -> int:
    """Half of the reserve beside apps and builds."""
    return settings.memory_reserve_mib * _MIB // 2


async def _confine(engine: Engine, memory_bytes: int, pid: int) -> None:
    """Bounds the proxy's memory; if that fails, only its own bounds do."""
    try:
        await engine.confine("proxy", pid, memory_bytes=memory_bytes)
    except OSError as error:  # apps are served all the same
        log.warning("the proxy's memory is not bounded", error=str(error))


def proxy_settings(
    settings: Settings, state_dir: Path, directory: Path, gateway_url: str
) -> ProxySettings:
    """Returns what the proxy serves. Raises ConfigurationInvalid."""
    return ProxySettings(
        run_dir=directory,
        state_dir=state_dir,
        base_domain=settings.base_domain,
        former_domains=settings.former_domains,
        listen_address=settings.proxy_host,
        http_port=_HTTP_PORT if settings.tls else settings.proxy_port,
        https_port=_HTTPS_PORT if settings.tls else None,
        memory_bytes=_memory_bytes(settings),
        visitor_connections=_VISITOR_CONNECTIONS,
        trusted_proxies=settings.trusted_proxies,
        api=_api_behind_proxy(settings, gateway_url),
    )


def _api_behind_proxy(settings: Settings, gateway_url: str) -> Api | None:
    """Returns the API's host at the proxy, if its public address is an HTTPS one."""
    public = urlsplit(gateway_url)
    if not settings.tls or public.scheme != "https" or public.hostname is None:
        return None
    return Api(host=public.hostname, dial=f"{settings.host}:{settings.port}")
