"""Checks that certificates can be had, where apps need one each."""

from moorage.certificates.availability import authorities_problem
from moorage.operate.check.finding import Finding
from moorage.settings import Settings


async def check_authority(settings: Settings) -> list[Finding]:
    """Asks the authority; nothing where none is needed."""
    if not settings.asks_elsewhere:
        return []
    problem = await authorities_problem(
        settings.acme_directories, root_file=settings.acme_root_file
    )
    remedy = "set acme_directories right, let this machine reach it, or name a wildcard_certificate"
    return [
        Finding(
            "certificate authority",
            not problem,
            problem or "answers",
            remedy if problem else "",
            blocks=False,
        )
    ]
