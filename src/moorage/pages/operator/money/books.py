"""The audit: run from a page, its result row by row."""

from starlette.responses import Response

from moorage.money import decimal_text
from moorage.operate.audit.rows import TokenTotal
from moorage.pages.operator.view import View
from moorage.storage.operation import audit_log
from moorage.storage.operation.audit_log import Upkeep

_ROWS = 200


async def shown(view: View) -> Response:
    """`GET /operator/books`: the last audit here, and when the books were last audited at all."""
    audits = view.desk.audits
    run = audits.last
    done = await audit_log.last_upkeep(view.books.db)
    return view.page(
        "books.html",
        run=run,
        is_running=audits.is_running,
        last=done.get(Upkeep.AUDIT),
        health=await view.desk.health(),
        max_rows=_ROWS,
        totals=[] if run is None or run.report is None else list(map(_total, run.report.totals)),
    )


def _total(total: TokenTotal) -> list[str]:
    """Returns the cells of a token's sums."""
    sums = (total.received, total.credited, total.held, total.reversed, total.sent_back)
    amounts = [decimal_text(int(each), decimals=total.decimals) for each in sums]
    return [total.chain, total.token.upper(), *amounts]


async def audit(view: View) -> Response:
    """`POST /operator/books/audit`: begins one."""
    search = view.form.get("search") == "true"
    begun = view.desk.audits.ask(view.books.operator, search=search)
    return view.done("/operator/books", "audit" if begun else "audit-runs")
