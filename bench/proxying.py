"""Requests through the proxy to an app, beside Caddy and nginx that lead straight to its port.

The app is five bytes that HAProxy answers by itself, so that the proxies are what is measured; it
is measured alone as well. Each takes its turn within each round, over plain HTTP, TLS 1.3 with
HTTP/1.1, and TLS 1.3 with HTTP/2. The load is h2load's.
"""

import asyncio
import json
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from load import tcp
from measure import MIB, Row, cpu_seconds, median, resident_bytes, spread
from moorage.address import Address
from moorage.gateway.platform import find_tool
from moorage.process import find_running
from moorage.routing.haproxy import HAProxy
from moorage.routing.haproxy_config import ProxySettings
from moorage.routing.router import Router
from support.gateway.ports import quiet_port
from support.gateway.self_signed import self_signed

ROUNDS, SECONDS = 7, 2
CONNECTIONS = 32
HOSTS = 10_000
WANTED = 2.5  # times Caddy
_HOST, _PLAIN_HOST = "bench.localhost", "plain.localhost"  # the latter has no certificate
_DOMAIN = "localhost"
_VISITOR_CONNECTIONS = 512  # the setting's default
_MEMORY_BYTES = 512 * MIB
WAYS = {
    "plain": ("--h1",),
    "TLS, HTTP/1.1": ("--h1",),
    "TLS, HTTP/2": ("--alpn-list=h2",),
}


@dataclass
class Server:
    """One that is measured: its ports, its processes, and what was seen."""

    name: str
    ports: tuple[int, int]  # plain, TLS
    pids: Sequence[int]
    rates: dict[str, list[float]] = field(default_factory=dict)
    microseconds: dict[str, list[float]] = field(default_factory=dict)

    def cpu_seconds(self) -> float:
        """Processor time of its processes so far."""
        return sum(cpu_seconds(pid) for pid in self.pids)

    def load(self, way: str) -> None:
        """Takes its turn."""
        before = self.cpu_seconds()
        rate, requests = _load(self.ports[way != "plain"], way)
        used = (self.cpu_seconds() - before) / requests
        self.rates.setdefault(way, []).append(rate)
        self.microseconds.setdefault(way, []).append(used * 1e6)


def run() -> list[Row]:
    """Requests a second and processor time of each, and memory with all hosts."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="moorage-bench-")))
        app = stack.enter_context(_app(directory))
        pem, certificate = self_signed(_HOST)
        (directory / "chain.pem").write_text(certificate)
        (directory / "key.pem").write_bytes(pem[len(certificate) :])
        servers = [
            stack.enter_context(_ours(directory, app, pem)),
            stack.enter_context(_caddy(directory, app)),
            stack.enter_context(_nginx(directory, app)),
        ]
        straight = Server("the app itself", (app, app), ())
        for _ in range(ROUNDS):
            straight.load("plain")
            for way in WAYS:
                for server in servers:
                    server.load(way)
        memory = resident_bytes(servers[0].pids[0])
    return [*_rows(servers), *_facts(straight, memory)]


def _rows(servers: Sequence[Server]) -> Iterator[Row]:
    ours, caddy = servers[:2]
    for way in WAYS:
        ratio = median(ours.rates[way]) / median(caddy.rates[way])
        shown = "; ".join(f"{each.name} {spread(each.rates[way])}" for each in servers)
        subject = f"{way}: ours ÷ Caddy straight, requests/s"
        yield Row(subject, f"{ratio:.2f}×", f"≥ {WANTED}×", ratio >= WANTED, shown)
        for other in servers[2:]:
            ratio = median(ours.rates[way]) / median(other.rates[way])
            yield Row(f"{way}: ours ÷ {other.name}, requests/s", f"{ratio:.2f}×")
        for each in servers:
            times = each.microseconds[way]
            subject = f"{way}: processor time of a request, {each.name}"
            yield Row(subject, f"{median(times):.0f} µs", note=spread(times, 1))


def _facts(straight: Server, memory: int) -> Iterator[Row]:
    rates = straight.rates["plain"]
    yield Row("requests/s of the app itself", f"{median(rates):,.0f}", note=spread(rates))
    yield Row(f"memory of ours with {HOSTS:,} hosts, after the load", f"{memory / MIB:.0f} MiB")


def _load(port: int, way: str) -> tuple[float, int]:
    """Requests a second, and how many there were; each must be answered 200."""
    url = f"http://{_PLAIN_HOST}/" if way == "plain" else f"https://{_HOST}/"
    words = ["h2load", "--threads=1", f"--clients={CONNECTIONS}", f"--duration={SECONDS}"]
    words += ["--warm-up-time=0", *WAYS[way], f"--connect-to=127.0.0.1:{port}"]
    told = subprocess.run([*words, url], capture_output=True, text=True, check=True).stdout
    rate = re.search(r"finished in .*?, ([\d.]+) req/s", told)
    codes = re.search(r"status codes: (\d+) 2xx, 0 3xx, 0 4xx, 0 5xx", told)
    assert rate is not None, told
    assert codes is not None, told
    assert int(codes[1]) > 0, told
    return float(rate[1]), int(codes[1])


@contextmanager
def _app(directory: Path) -> Iterator[int]:
    port = quiet_port()
    config = directory / "app.cfg"
    config.write_text(
        "global\n nbthread 1\n maxconn 1000\ndefaults\n mode http\n timeout client 1m\n"
        f"frontend app\n bind 127.0.0.1:{port}\n"
        " http-request return status 200 content-type text/plain string hello\n"
    )
    with _program(port, str(find_tool("haproxy")), "-db", "-f", str(config)):
        yield port


@contextmanager
def _ours(directory: Path, app: int, pem: bytes) -> Iterator[Server]:
    ports = quiet_port(), quiet_port()
    settings = ProxySettings(
        run_dir=directory / "run",
        state_dir=directory / "proxy",
        base_domain=_DOMAIN,
        http_port=ports[0],
        https_port=ports[1],
        memory_bytes=_MEMORY_BYTES,
        visitor_connections=_VISITOR_CONNECTIONS,
    )
    proxy, router = HAProxy(find_tool("haproxy"), settings), Router(settings.run_dir, _DOMAIN)

    async def start() -> None:
        for number in range(HOSTS):
            await router.point(f"app-{number}.{_DOMAIN}", Address(f"127.0.0.1:{app}"))
        for host in (_HOST, _PLAIN_HOST):
            await router.point(host, Address(f"127.0.0.1:{app}"))
        await proxy.start()
        await proxy.certificates.install(_HOST, pem)

    asyncio.run(start())
    try:
        (process,) = find_running(("-db", "-f", str(settings.state_dir / "haproxy.cfg")))
        yield Server("ours", ports, [process.pid])
    finally:
        asyncio.run(proxy.stop())


@contextmanager
def _caddy(directory: Path, app: int) -> Iterator[Server]:
    ports = quiet_port(), quiet_port()
    route = {"handler": "reverse_proxy", "upstreams": [{"dial": f"127.0.0.1:{app}"}]}

    def server(port: int, protocols: list[str], **more: object) -> dict[str, object]:
        usual = {"routes": [{"handle": [route]}], "automatic_https": {"disable": True}}
        return {"listen": [f"127.0.0.1:{port}"], "protocols": protocols, **usual, **more}

    files = {"certificate": str(directory / "chain.pem"), "key": str(directory / "key.pem")}
    servers = {
        "plain": server(ports[0], ["h1"]),
        "tls": server(ports[1], ["h1", "h2"], tls_connection_policies=[{}]),
    }
    apps = {"http": {"servers": servers}, "tls": {"certificates": {"load_files": [files]}}}
    config = directory / "caddy.json"
    config.write_text(json.dumps({"admin": {"disabled": True}, "apps": apps}))
    with _program(ports[1], str(find_tool("caddy")), "run", "--config", str(config)) as pid:
        yield Server("Caddy straight", ports, [pid])


@contextmanager
def _nginx(directory: Path, app: int) -> Iterator[Server]:
    ports = quiet_port(), quiet_port()
    config = directory / "nginx.conf"
    config.write_text(
        f"worker_processes 2; daemon off; pid {directory}/nginx.pid; error_log /dev/null;\n"
        "events { worker_connections 1024; }\n"
        "http { access_log off; keepalive_requests 1000000000;\n"
        f"upstream app {{ server 127.0.0.1:{app}; keepalive 64; keepalive_requests 1000000000; }}\n"
        f"server {{ listen 127.0.0.1:{ports[0]}; listen 127.0.0.1:{ports[1]} ssl; http2 on;\n"
        f"ssl_certificate {directory}/chain.pem; ssl_certificate_key {directory}/key.pem;\n"
        "location / { proxy_pass http://app; proxy_http_version 1.1;"
        ' proxy_set_header Connection ""; } } }\n'
    )
    with _program(ports[1], "nginx", "-c", str(config)) as pid:
        workers = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        yield Server("nginx straight", ports, [pid, *map(int, workers)])


@contextmanager
def _program(port: int, *command: str) -> Iterator[int]:
    """Runs it, once it listens, until it is no longer needed."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _wait(port)
            yield process.pid
        finally:
            process.terminate()


def _wait(port: int) -> None:
    for _ in range(500):
        try:
            tcp(port).close()
        except ConnectionError:
            time.sleep(0.01)
        else:
            return
