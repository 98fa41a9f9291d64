"""Checks that certificates can be had, where apps need one each."""

from moorage.gateway.platform.authority import authority_problem, needs_authority
from moorage.operate.check.finding import Finding
from moorage.settings import Settings


async def check_authority(settings: Settings) -> list[Finding]:
    """Asks the authority; nothing where none is needed."""
    if not needs_authority(settings):
        return []
    problem = await authority_problem(settings)
    remedy = "set acme_directory right, let this machine reach it, or name a wildcard_certificate"
    return [
        Finding(
            "certificate authority",
            not problem,
            problem or "answers",
            remedy if problem else "",
            blocks=False,
        )
    ]
