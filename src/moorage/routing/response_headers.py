"""Makes the handlers that remove response headers with which an app could affect other apps.

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
    """Returns handlers for an app's route that change its responses, 1xx and 101 included.

    They remove the fields named in `removed`. At a host that shares more than its last label with
    a base domain, cookies lose their Domain attribute, so that they are for this host alone.
    """
    return [
        {"handler": "headers", "response": {"deferred": True, "delete": list(removed)}},
        {"handler": "subroute", "routes": [_of_one_site(base_domains)]},
    ]


def _of_one_site(base_domains: Sequence[str]) -> JsonObject:
    sites = dict.fromkeys(".".join(domain.split(".")[-2:]) for domain in base_domains)
    escaped = [re.escape(site) for site in sites]
    site = escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"
    return {
        "match": [{"vars_regexp": {"{http.request.host}": {"pattern": rf"(^|\.){site}\.?$"}}}],
        "handle": [
            {
                "handler": "headers",
                "response": {
                    "deferred": True,
                    "delete": ["Set-Cookie2"],
                    "replace": {
                        "Set-Cookie": [_without(_DOMAIN_ATTRIBUTE)],
                        "Clear-Site-Data": [_without(_CLEARS_COOKIES, instead='"storage"')],
                    },
                },
            }
        ],
    }


def _without(pattern: str, *, instead: str = "") -> JsonObject:
    return {"search_regexp": pattern, "replace": instead}
