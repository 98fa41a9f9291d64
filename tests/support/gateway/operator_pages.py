"""An operator's pages over a unit test's database, asked without a socket."""

from dataclasses import dataclass, field
from http import HTTPStatus
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import urlencode

import msgspec
from starlette.requests import Request
from starlette.types import Message

from moorage.chains.chain import KNOWN_CHAINS
from moorage.ledger.metering import BilledTime
from moorage.operate.books import OpenBooks
from moorage.pages.operator.audits import Audits, BooksCommand, Reports
from moorage.pages.operator.health import Health, HealthReader, OperatorContext
from moorage.pages.operator.site import OperatorSite
from moorage.pages.sessions.session import AuthGuard, Session
from moorage.settings import Settings
from moorage.storage.database import Database
from support.books.records_fixture import PAY_TO
from support.gateway.clock import MovableClock

HOST = "127.0.0.1:8403"
ANN = Session(id="1", who="ann", csrf="token of ann", expires_ms=2**50)

WELL = Health(
    at_ms=1,
    parts={"database": "ok"},
    chains=[],
    machine=None,
    waiting=0,
    oldest_seconds=0,
    held=0,
    open_refunds=0,
    audit=None,
    backup=None,
    offsite=[],
    certificates=0,
    certificate_end_ms=None,
    gateways=[],
    notices={},
    alerts=[],
)


async def counts_nobody(_request: Request) -> None:
    """Lets every request pass."""


class Answer(msgspec.Struct):
    """What a page answered."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def location(self) -> str:
        """Where it leads to."""
        return self.headers.get("location", "")


@dataclass
class OperatorPages:
    """The site, and whoever is signed in; `None` for nobody."""

    db: Database
    clock: MovableClock
    session: Session | None = ANN
    health: Health = WELL
    settings: Settings = field(default_factory=Settings)
    written: Settings | None = None  # in the file by now, if something else
    audit_command: tuple[str, ...] = ("false",)
    report_program: str = "false"

    def __post_init__(self) -> None:
        self.audits = Audits(self.audit_command, clock=self.clock)
        context = OperatorContext(
            books=OpenBooks(
                db=self.db,
                chains=KNOWN_CHAINS,
                clients={},
                pay_to=PAY_TO,
                recipients=frozenset({PAY_TO}),
                retired=frozenset(),
                operator="",
            ),
            in_force=lambda: self.settings,
            configured=self.settings,
            load=lambda: self.written or self.settings,
            clock=self.clock,
            billed=BilledTime(clock=self.clock, boot_id="boot", gateway=""),
            health=HealthReader(self._health),
            audits=self.audits,
            reports=Reports(BooksCommand(self.report_program, ())),
        )
        guard = cast("AuthGuard", SimpleNamespace(session=self._find, hosts=frozenset({HOST})))
        self._app = OperatorSite(context).app(guard, (), count=counts_nobody)

    async def _health(self) -> Health:
        return self.health

    async def _find(self, _request: Request) -> Session | None:
        return self.session

    async def get(self, path: str, **headers: str) -> Answer:
        """Ask for a page."""
        return await self._ask("GET", path, b"", headers)

    async def shown(self, path: str) -> str:
        """The text of a page that there is."""
        answer = await self.get(path)
        assert answer.status == HTTPStatus.OK, answer.text
        return answer.text

    async def post(self, path: str, **fields: str) -> Answer:
        """Send a form as a page of ours does."""
        csrf = self.session.csrf if self.session else ""
        return await self.send(path, {"csrf": csrf, **fields}, origin=f"http://{HOST}")

    async def send(self, path: str, fields: dict[str, str], **headers: str) -> Answer:
        """Send a form, from wherever the headers say."""
        body = urlencode(fields).encode()
        kind = {"content-type": "application/x-www-form-urlencoded"}
        return await self._ask("POST", path, body, kind | headers)

    async def _ask(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> Answer:
        path, _, query = path.partition("?")
        scope: dict[str, Any] = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "server": ("127.0.0.1", 8403),
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": query.encode(),
            "headers": [
                (b"host", HOST.encode()),
                (b"content-length", str(len(body)).encode()),
                *(
                    (name.replace("_", "-").encode(), value.encode())
                    for name, value in headers.items()
                ),
            ],
        }
        sent: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Message) -> None:
            sent.append(message)

        await self._app(scope, receive, send)
        content = b"".join(message.get("body", b"") for message in sent[1:])
        told = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return Answer(sent[0]["status"], told, content.decode())
