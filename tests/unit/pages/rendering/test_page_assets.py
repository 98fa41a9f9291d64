"""Files that pages load: vendored unchanged, from this gateway alone, small."""

import hashlib
import re
from importlib.resources import files
from pathlib import Path

from starlette.applications import Starlette
from starlette.routing import Route
from starlette.testclient import TestClient

from moorage.pages.rendering.templates import asset_url, assets, serve_asset

RENDERING = Path(str(files("moorage.pages.rendering")))
VENDOR = RENDERING / "static/vendor"
DIGESTS = dict(
    re.findall(
        r"^\| `([^`]+)` \| .* \| `([0-9a-f]{64})` \|$", (VENDOR / "README.md").read_text(), re.M
    )
)
OURS = sorted(
    path
    for path in RENDERING.rglob("*")
    if path.suffix in {".html", ".css", ".js", ".svg"} and path.parent != VENDOR
)

LOADS = re.compile(
    r"""(?:src|srcset|data|poster)=["']?(?:https?:)?//"""
    r"""|url\(["']?(?:https?:)?//"""
    r"""|@import"""
    r"""|import\(?\s*["'](?:https?:)?//"""
    r"""|<link[^>]+href=["']?(?:https?:)?//"""
)
INLINE = re.compile(
    r"""<style|\sstyle=|\son[a-z]+=|hx-on|javascript:"""
    r"""|<script(?![^>]*(?:src=|type="application/json"))"""
)


def client() -> TestClient:
    return TestClient(Starlette(routes=[Route("/assets/{digest}/{name}", serve_asset)]))


def test_vendored_files_are_those_of_their_packages() -> None:
    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in VENDOR.iterdir()
        if path.name != "README.md"
    }
    assert found == DIGESTS


def test_no_page_loads_from_another_host() -> None:
    assert {path.name: found for path in OURS if (found := LOADS.findall(path.read_text()))} == {}


def test_templates_hold_no_style_and_no_script_of_their_own() -> None:
    """The content policy refuses them, silently to a reader of the page."""
    templates = [path for path in OURS if path.suffix == ".html"]
    found = {path.name: INLINE.findall(path.read_text()) for path in templates}
    assert {name: inline for name, inline in found.items() if inline} == {}


def test_an_asset_is_cached_for_ever_under_its_digest() -> None:
    answer = client().get(asset_url("moorage.css"))
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["content-type"].startswith("text/css")
    assert answer.content == (RENDERING / "static/moorage.css").read_bytes()


def test_an_asset_is_compressed_for_who_can_read_that() -> None:
    url = asset_url("htmx.min.js")
    plain = client().get(url, headers={"Accept-Encoding": "identity"})
    packed = client().get(url, headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.headers["vary"] == "Accept-Encoding"
    assert int(packed.headers["content-length"]) < len(plain.content) / 2
    assert packed.content == plain.content


def test_an_address_with_another_digest_is_nothing() -> None:
    assert client().get("/assets/000000000000/moorage.css").status_code == 404


def test_what_a_first_page_loads_is_small() -> None:
    first = ("moorage.css", "moorage.js", "htmx.min.js")
    sizes = [len(assets()[asset_url(name)].compressed) for name in first]
    assert sum(sizes) < 40_000
