"""A project's own domains: the records to set, how they stand, and looking again."""

from starlette.responses import Response

from moorage.pages.wallet.api import ApiRefused
from moorage.pages.wallet.project.shown import project_of
from moorage.pages.wallet.view import View
from moorage.wire.projects import DomainItem, DomainList, DomainRemoved


async def show_domains(view: View) -> Response:
    """`GET …/domains`."""
    return await _shown(view)


async def add_domain(view: View) -> Response:
    """`POST …/domains`: claim one."""
    domain = view.form.get("domain", "").strip()
    try:
        await view.api.change(
            DomainItem, "POST", "projects", view.project_id, "domains", body={"domain": domain}
        )
    except ApiRefused as refused:
        return await _shown(view, error=refused.problem.error, typed=domain)
    return _back(view, "domain-added")


async def check_domain(view: View) -> Response:
    """`POST …/domains/check`: look at its record now."""
    domain = view.form.get("domain", "")
    await view.api.change(
        DomainItem, "POST", "projects", view.project_id, "domains", domain, "verify"
    )
    return _back(view, "domain-checked")


async def remove_domain(view: View) -> Response:
    """`POST …/domains/remove`: remove a domain."""
    domain = view.form.get("domain", "")
    await view.api.change(DomainRemoved, "DELETE", "projects", view.project_id, "domains", domain)
    return _back(view, "domain-removed")


async def _shown(view: View, *, error: str = "", typed: str = "") -> Response:
    project = await project_of(view)
    found = await view.api.get(DomainList, "projects", project.id, "domains")
    return view.page(
        "wallet/project/domains.html",
        status=400 if error else 200,
        project=project,
        domains=found.domains,
        error=error,
        typed=typed,
    )


def _back(view: View, told: str) -> Response:
    return view.redirect(f"/wallet/projects/{view.project_id}/domains", told)
