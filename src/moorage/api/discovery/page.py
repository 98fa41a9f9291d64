"""The page that people get at `/`: one file, nothing from another host, no script."""

import base64
import hashlib
from html import escape

from moorage.api.discovery.facts import Facts
from moorage.api.discovery.guide import template, words
from moorage.signed_request import host_of

_STYLE = template("page.css").template


def page_html(facts: Facts) -> str:
    """Returns the page."""
    told = {name: escape(str(word)) for name, word in words(facts).items()}
    return template("page.html").substitute(
        told,
        host=escape(host_of(facts.url)),
        style=_STYLE,
        terms=_link(facts.seller.terms_url),
        contact=_link(facts.seller.contact),
    )


def _link(target: str) -> str:
    """Returns a link to a URL or a mail address."""
    if not target:
        return "none is given"
    url = target if "://" in target else f"mailto:{target}"
    return f'<a href="{escape(url)}" rel="nofollow">{escape(target)}</a>'


def page_policy() -> str:
    """Returns the page's Content-Security-Policy: its own style by its digest, and nothing else."""
    digest = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    )
