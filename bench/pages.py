"""What pages cost the gateway: a wallet with ten thousand projects, an operator with its books."""

import asyncio
import secrets
from urllib.parse import urlsplit

from customers import Customers, fill
from gateway import api_port, gateway
from load import request_bytes, tcp
from measure import Row, cpu_seconds
from moorage.clock import SystemClock
from moorage.pages.sessions.session import Sessions
from moorage.records.access import Role
from moorage.storage.apps import deployments
from moorage.storage.opening import open_database
from support.gateway.gateway_fixture import DevGateway

PROJECTS = 10_000
VISITS = 60
MOST_MS = 50.0
_WALLET = f"0x{1:040x}"  # the first that `customers` makes up
_NOW_MS = 1_775_556_000_000
OF_WALLET = ("", "?page=20", "/credits", "/payments", "/events", "/top-up", "/links")
OF_PROJECT = ("", "/deployments", "/logs", "/metrics", "/variables", "/domains", "/settings")
OF_OPERATOR = (
    *("", "/trends", "/payments", "/wallets", "/projects", "/books", "/prices", "/reports"),
    *("/settings", "/acts", "/log"),
)


def run() -> list[Row]:
    """Processor time of each page, of the gateway's whole process."""
    with gateway(disk_overcommit="100", app_disk_mib="64") as started:
        started.kill()
        project, wallet, operator = asyncio.run(_put(started))
        started.start()
        public, desk = api_port(started), urlsplit(started.info["operator"]).port or 80
        asked = [
            *((public, f"moorage={wallet}", f"/wallet{path}") for path in OF_WALLET),
            *(
                (public, f"moorage={wallet}", f"/wallet/projects/{project}{path}")
                for path in OF_PROJECT
            ),
            *((desk, f"moorage-operator={operator}", f"/operator{path}") for path in OF_OPERATOR),
        ]
        return [
            _row(path.replace(project, "<project>"), _milliseconds(started, port, cookie, path))
            for port, cookie, path in asked
        ]


def _milliseconds(started: DevGateway, port: int, cookie: str, path: str) -> float:
    """Processor time of one visit, after one to warm up."""
    caller = tcp(port)
    request = request_bytes("GET", path, {"Cookie": cookie, "Accept": "text/html"})
    try:
        _visit(caller.ask(request), path)
        used = cpu_seconds(started.pid)
        for _ in range(VISITS):
            _visit(caller.ask(request), path)
        return (cpu_seconds(started.pid) - used) / VISITS * 1000
    finally:
        caller.close()


def _visit(answer: tuple[int, bytes, bytes], path: str) -> None:
    status, head, _ = answer
    assert status == 200, (path, head)


def _row(path: str, took_ms: float) -> Row:
    return Row(path, f"{took_ms:.1f} ms", f"< {MOST_MS:.0f} ms", took_ms < MOST_MS)


async def _put(started: DevGateway) -> tuple[str, str, str]:
    """A wallet with its projects; returns one of them, and a session of the wallet and operator."""
    db = open_database(started.data_dir / "moorage.db")
    try:
        made_up = Customers(
            projects=PROJECTS, projects_of_wallet=PROJECTS, suspended=True, billed_ms=_NOW_MS
        )
        (deployment, *_) = await fill(db, made_up)
        sessions = Sessions(db=db, clock=SystemClock())
        secret = [
            (
                await sessions.sign_in(
                    who,
                    role=role,
                    nonce=secrets.token_hex(16),
                    issued_ms=SystemClock().now_ms(),
                )
            ).secret
            for who, role in ((_WALLET, Role.WALLET), ("bench", Role.OPERATOR))
        ]
        serving = await deployments.by_id(db, deployment)
        assert serving is not None
        return serving.project_id, secret[0], secret[1]
    finally:
        db.close()
