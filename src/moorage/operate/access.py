"""`moorage operator`: a link to the operator's pages, and the end of all that were opened."""

from pathlib import Path

import msgspec

from moorage.auth.tokens import ONCE_MS, LinkOrder, add_link
from moorage.clock import SystemClock
from moorage.errors import ConfigurationInvalid
from moorage.gateway.data_directory import read_dev_file
from moorage.operate.books import OpenBooks, note_act
from moorage.records.access import Role
from moorage.settings import Settings
from moorage.storage import page_access


class OperatorLink(msgspec.Struct, frozen=True):
    """A link that opens the operator's pages once."""

    url: str
    expires_ms: int


class AccessEnded(msgspec.Struct, frozen=True):
    """What was ended of operators' access to their pages."""

    sessions: int
    links: int


async def operator_link(books: OpenBooks, *, address: str) -> OperatorLink:
    """Makes a link under the name of the user who runs the command, and records that.

    `address` is where the operator's port answers.
    """
    order = LinkOrder(
        role=Role.OPERATOR, who=books.operator, may_change=True, once=True, lifetime_ms=ONCE_MS
    )
    async with books.db.transaction(durable=True) as tx:
        made = await add_link(tx, order, now_ms=SystemClock().now_ms())
        await note_act(tx, books.operator, "make a link", "the operator's pages")
    return OperatorLink(f"{address}/operator/links/{made.secret}", made.link.expires_ms)


async def end_access(books: OpenBooks, *, reason: str) -> AccessEnded:
    """Ends every operator's session, and takes back the links, in a gateway that may be running."""
    async with books.db.transaction(durable=True) as tx:
        now_ms = SystemClock().now_ms()
        ended = AccessEnded(
            sessions=await page_access.end_sessions_of_role(tx, Role.OPERATOR, now_ms=now_ms),
            links=await page_access.remove_links_of_role(tx, Role.OPERATOR),
        )
        await note_act(tx, books.operator, "end access", "the operator's pages", reason=reason)
        return ended


def operator_address(settings: Settings) -> str:
    """Returns where the operator's pages answer on this machine; in dev the port may be any.

    Raises ConfigurationInvalid for a port that nobody knows.
    """
    running = None if settings.chains else read_dev_file(Path(settings.data_dir))
    if running is not None:
        return running.operator
    if settings.operator_port == 0:
        raise ConfigurationInvalid("operator_listen: 0 takes any port, so no link leads there.")
    return f"http://127.0.0.1:{settings.operator_port}"
