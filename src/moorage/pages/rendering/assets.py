"""Styles, scripts and pictures: read once, served under their digest, cached for ever."""

import gzip
import hashlib
from functools import cache
from importlib.resources import files
from mimetypes import guess_type
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from moorage.pages.rendering.policy import SECURITY_HEADERS

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
