"""Opens an operator's pages over a running gateway."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from starlette.routing import Route
from starlette.types import ASGIApp

from moorage.gateway.assembly import Rooms
from moorage.loop import Run
from moorage.operate.books import books_of
from moorage.pages.operator.audits import Audits, BooksCommand, Reports
from moorage.pages.operator.health import Desk, HealthReader, read_health
from moorage.pages.operator.site import OperatorSite
from moorage.pages.sessions.form import Count
from moorage.pages.sessions.gate import Gate
from moorage.settings import Settings


@dataclass(frozen=True)
class OpenedPages:
    """The pages of one gateway."""

    desk: Desk

    @property
    def runs(self) -> tuple[Run, ...]:
        """The tasks that run until the gateway stops."""
        return (self.desk.audits.run,)

    def app(self, gate: Gate, doors: tuple[Route, ...], *, count: Count) -> ASGIApp:
        """Returns the pages for those whom `gate` lets in; `doors` lead to it.

        `count` counts forms of all others.
        """
        site = OperatorSite(
            desk=self.desk,
            find_operator=gate.operator_session,
            hosts=gate.hosts,
            count=count,
            doors=doors,
        )
        return site.app


async def open_operator_pages(
    rooms: Rooms,
    in_force: Callable[[], Settings],
    *,
    load: Callable[[], Settings],
    command: BooksCommand,
) -> OpenedPages:
    """Opens the pages of a gateway with these rooms.

    `in_force` returns the settings in force, `load` reads them again as the next start would;
    `command` runs this program on the books.
    """
    core, payee = rooms.core, rooms.payee
    books = await books_of(core.db, payee.chains, payee.clients, pay_to=payee.pay_to, operator="")
    desk = Desk(
        books=books,
        in_force=in_force,
        configured=load(),
        load=load,
        clock=core.clock,
        billed=rooms.ledger.metering.time,
        health=HealthReader(partial(read_health, rooms)),
        audits=Audits(command.of("audit"), clock=core.clock),
        reports=Reports(command),
    )
    return OpenedPages(desk)
