"""Renders templates. Everything in them is escaped, unless it is markup that was made here."""

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import Response

from moorage.pages.rendering.assets import asset_url
from moorage.pages.rendering.policy import SECURITY_HEADERS
from moorage.pages.rendering.written import FILTERS


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("moorage.pages.rendering", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        enable_async=False,
    )
    environment.filters.update(FILTERS)
    environment.globals["asset"] = asset_url
    return environment


def render(template: str, **context: Any) -> str:
    """Returns a template with its blanks filled in; a blank that nothing fills is an error."""
    return _environment().get_template(template).render(context)


def page(template: str, *, status: int = 200, **context: Any) -> Response:
    """Returns a page as it is answered; it is never stored, as it shows one person's things."""
    headers = {**SECURITY_HEADERS, "Cache-Control": "no-store"}
    return Response(
        render(template, **context), status, headers, media_type="text/html; charset=utf-8"
    )
