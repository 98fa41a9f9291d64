"""What the proxy takes out of an app's response headers, as pure data: what would reach other apps.

A browser counts all hosts below one registered domain as one site unless the public suffix list
says otherwise, and so lets one app set, or clear, the cookies of all of them.
"""

import re
from typing import Any

JsonObject = dict[str, Any]

_DOMAIN_ATTRIBUTE = "(?i);[^;=]*domain[^;=]*=[^;]*"
"""In a cookie. Attributes are split at `;` whatever quotes say, and names are trimmed of what each
client takes for white space (RFC 6265, 5.2): so any name that has the word in it is meant."""

_CLEARS_COOKIES = r'"(?:cookies|\*)"'
"""In Clear-Site-Data: those of every host of the registered domain (W3C Clear Site Data, 3.1)."""


def cleaning(base_domain: str, *, removed: tuple[str, ...]) -> list[JsonObject]:
    """Handlers to stand before an app's proxy; they change its answers, 1xx and 101 included.

    Fields named in `removed` are left out of all. At a host that shares more than its last label
    with the base domain, cookies are the host's alone: they lose their Domain attribute.
    """
    return [
        {"handler": "headers", "response": {"deferred": True, "delete": list(removed)}},
        {"handler": "subroute", "routes": [_of_one_site(base_domain)]},
    ]


def _of_one_site(base_domain: str) -> JsonObject:
    site = ".".join(base_domain.split(".")[-2:])
    return {
        "match": [
            {"vars_regexp": {"{http.request.host}": {"pattern": rf"(^|\.){re.escape(site)}\.?$"}}}
        ],
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
