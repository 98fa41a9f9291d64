"""Renders templates. Everything in them is escaped, unless it is markup that was made here."""

import gzip
import hashlib
from functools import cache
from importlib.resources import files
from mimetypes import guess_type
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import Response

from moorage.pages.rendering.formatting import FILTERS

CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""Nothing of another host, and nothing written into a page itself runs."""

SECURITY_HEADERS = {
    "Content-Security-Policy": CONTENT_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def file_headers(name: str) -> dict[str, str]:
    """Returns the headers of an answer that a browser saves under a name, and nobody stores."""
    return {
        **SECURITY_HEADERS,
        "Content-Disposition": f'attachment; filename="{name}"',
        "Cache-Control": "no-store",
    }


PREFIX = "/assets"


class Asset(NamedTuple):
    """One file; its digest is part of its address, so that a changed file has another."""

    name: str
    content: bytes
    compressed: bytes  # by gzip
    media_type: str

    @property
    def url(self) -> str:
        """The path that it is served at."""
        digest = hashlib.sha256(self.content).hexdigest()[:12]
        return f"{PREFIX}/{digest}/{self.name}"


@cache
def assets() -> dict[str, Asset]:
    """Returns every file of `static`, by its address."""
    found: dict[str, Asset] = {}
    root = files(__package__).joinpath("static")
    for folder in (root, root.joinpath("vendor")):
        for entry in folder.iterdir():
            if entry.is_file() and entry.name.endswith((".css", ".js", ".svg")):
                media_type = guess_type(entry.name)[0] or "application/octet-stream"
                content = entry.read_bytes()
                compressed = gzip.compress(content, mtime=0)
                asset = Asset(entry.name, content, compressed, media_type)
                found[asset.url] = asset
    return found


def asset_url(name: str) -> str:
    """Returns the address of a file. Raises KeyError for one that does not exist."""
    return _urls()[name]


@cache
def _urls() -> dict[str, str]:
    return {asset.name: url for url, asset in assets().items()}


async def serve_asset(request: Request) -> Response:
    """`GET /assets/{digest}/{name}`."""
    asset = assets().get(request.url.path)
    if asset is None:
        return Response(status_code=404, headers=SECURITY_HEADERS)
    headers = {
        **SECURITY_HEADERS,
        "Cache-Control": "public, max-age=31536000, immutable",
        "Vary": "Accept-Encoding",
    }
    if "gzip" not in request.headers.get("accept-encoding", ""):
        return Response(asset.content, media_type=asset.media_type, headers=headers)
    headers["Content-Encoding"] = "gzip"
    return Response(asset.compressed, media_type=asset.media_type, headers=headers)


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
