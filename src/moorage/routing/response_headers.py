"""Makes the routes that remove response headers with which an app could affect other apps.

A browser treats all hosts below one registered domain as one site, unless the public suffix list
says otherwise. One app could then set or clear the cookies of all of them.
"""

import re
from collections.abc import Sequence
from typing import Any

JsonObject = dict[str, Any]

_DOMAIN_ATTRIBUTE = "(?i);[^;=]*domain[^;=]*=[^;]*"
"""Matches a cookie's Domain attribute. Clients split attributes at `;` even within quotes, and
differ in the white space they trim (RFC 6265, 5.2): so it matches any name with the word in it."""

_CLEARS_COOKIES = r'"(?:cookies|\*)"'
"""Matches in Clear-Site-Data what clears the cookies of all hosts of the registered domain
(W3C Clear Site Data, 3.1)."""


def cleaning(base_domains: Sequence[str], *, removed: tuple[str, ...]) -> list[JsonObject]:
    """Returns routes, of which the first that matches changes an app's responses, 1xx and 101 too.

    They remove the fields named in `removed`. At a host that shares more than its last label with
    a base domain, cookies lose their Domain attribute, so that they are for this host alone.
    """
    names = [f"*.{domain}" for domain in base_domains]  # most hosts; needs no regular expression
    of_one_site = {
        "delete": [*removed, "Set-Cookie2"],
        "replace": {
            "Set-Cookie": [_without(_DOMAIN_ATTRIBUTE)],
            "Clear-Site-Data": [_without(_CLEARS_COOKIES, instead='"storage"')],
        },
    }
    return [
        _changing(of_one_site) | {"match": [{"host": names}, _same_site(base_domains)]},
        _changing({"delete": list(removed)}),
    ]


def _changing(response: JsonObject) -> JsonObject:
    handler = {"handler": "headers", "response": {"deferred": True} | response}
    return {"group": "response", "handle": [handler]}


def _same_site(base_domains: Sequence[str]) -> JsonObject:
    sites = dict.fromkeys(".".join(domain.split(".")[-2:]) for domain in base_domains)
    escaped = [re.escape(site) for site in sites]
    site = escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"
    return {"vars_regexp": {"{http.request.host}": {"pattern": rf"(^|\.){site}\.?$"}}}


def _without(pattern: str, *, instead: str = "") -> JsonObject:
    return {"search_regexp": pattern, "replace": instead}
