"""`moorage domains`: the host names of one's own that lead to a project."""

import asyncio
from typing import Literal

from moorage.cli.connection import DEFAULTS, Options, find_connection
from moorage.cli.exits import Exit
from moorage.cli.screen import Screen, table_lines
from moorage.cli.wallet.projects import find_project
from moorage.sdk.client import Client
from moorage.sdk.errors import ClientMisconfigured
from moorage.wire.domains import DomainItem, DomainList, DomainRemoved

What = Literal["list", "add", "verify", "remove"]


def domains(
    project: str, what: What = "list", domain: str = "", /, *, options: Options = DEFAULTS
) -> int:
    """Have a domain of your own lead to a project: `moorage domains shop add shop.example`.

    Exits with 1 when `verify` does not find the record.

    Parameters
    ----------
    project
        The project's name or id.
    what
        `list` says how they stand; `add` says which DNS records to set; `verify` looks at them
        now; `remove` removes a domain.
    domain
        The domain, for all but `list`.
    """
    if (what == "list") == bool(domain):
        raise ClientMisconfigured("write: moorage domains PROJECT add|verify|remove DOMAIN")
    screen = Screen(json=options.json)
    connection = find_connection(options)

    async def ask() -> DomainList | DomainItem | DomainRemoved:
        async with connection.signed_client() as client:
            return await _ask(client, await find_project(client, project), what, domain)

    answer = asyncio.run(ask())
    screen.document(answer)
    if isinstance(answer, DomainList):
        rows = [(each.domain, each.status, each.problem or "-") for each in answer.domains]
        none = f"No domains of its own. Next: moorage domains {project} add DOMAIN"
        screen.table(("DOMAIN", "STATUS", "LAST LOOK"), rows, none=none)
    else:
        screen.result(domain_text(project, answer))
    is_pending = isinstance(answer, DomainItem) and answer.status != "verified"
    return Exit.FAILED if what == "verify" and is_pending else Exit.OK


def domain_text(project: str, answer: DomainItem | DomainRemoved) -> str:
    """A domain, as it stands or gone, and what to do, for a person."""
    if isinstance(answer, DomainRemoved):
        return f"{answer.domain} is removed."
    lines = [f"{answer.domain}: {answer.status}" + (f" at {answer.url}" if answer.url else "")]
    lines += [answer.problem] if answer.problem else []
    is_pending = answer.status != "verified"
    records = [each for each in answer.records if is_pending or each.type != "TXT"]
    rows = [(each.type, each.name, each.value) for each in records]
    lines += ["", *table_lines(("RECORD", "NAME", "VALUE"), rows), ""]
    if is_pending:
        lines.append("The TXT record proves that the domain is yours, the other points it here.")
    lines.append("Where a zone allows no CNAME at its top, give it the A and AAAA that VALUE has.")
    return "\n".join([*lines, _next_look(project, answer)] if is_pending else lines)


def _next_look(project: str, pending: DomainItem) -> str:
    when = pending.next_check_at
    by_itself = f"The next check is at {when}" if when else "It is not checked automatically"
    return f"{by_itself}. To check now: moorage domains {project} verify {pending.domain}"


async def _ask(
    client: Client, project_id: str, what: What, domain: str
) -> DomainList | DomainItem | DomainRemoved:
    match what:
        case "list":
            return await client.domains(project_id)
        case "add":
            return await client.add_domain(project_id, domain)
        case "verify":
            return await client.verify_domain(project_id, domain)
        case "remove":
            return await client.remove_domain(project_id, domain)
