"""Catalogs at well-known places, by which programs find the other documents."""

import hashlib
from typing import Any
from urllib.parse import urlsplit

from moorage import __version__
from moorage.api.discovery.facts import NAME, SUMMARY, Facts
from moorage.api.discovery.guide import SKILL, skill_description, skill_text

LINKS = (
    '</.well-known/api-catalog>; rel="api-catalog", </openapi.json>; rel="service-desc", '
    '</llms.txt>; rel="service-doc"'
)
"""The value of a `Link` header (RFC 8288, RFC 9727)."""

MCP_CARD_TYPE = "application/mcp-server-card+json"
MCP_PROTOCOL_VERSIONS = ["2026-07-28", "2025-11-25"]
_SCHEMA = "https://static.modelcontextprotocol.io/schemas/v1/server-card.schema.json"


def skill_index(facts: Facts) -> dict[str, Any]:
    """Returns `/.well-known/agent-skills/index.json`."""
    digest = hashlib.sha256(skill_text(facts).encode()).hexdigest()
    return {
        "$schema": "https://schemas.agentskills.io/discovery/0.2.0/schema.json",
        "skills": [
            {
                "name": SKILL,
                "type": "skill-md",
                "description": skill_description(facts),
                "url": f"{facts.url}/skill.md",
                "digest": f"sha256:{digest}",
            }
        ],
    }


def api_catalog(facts: Facts) -> dict[str, Any]:
    """Returns `/.well-known/api-catalog` (RFC 9727)."""
    return {
        "linkset": [
            {"anchor": f"{facts.url}/.well-known/api-catalog", "item": [{"href": f"{facts.url}/"}]},
            {
                "anchor": f"{facts.url}/",
                "service-desc": [{"href": f"{facts.url}/openapi.json", "type": "application/json"}],
                "service-doc": [
                    {"href": f"{facts.url}/llms.txt", "type": "text/plain"},
                    {"href": f"{facts.url}/", "type": "text/html"},
                ],
                "status": [{"href": f"{facts.url}/health", "type": "application/json"}],
            },
        ]
    }


def ai_catalog(facts: Facts) -> dict[str, Any]:
    """Returns `/.well-known/ai-catalog.json`."""
    host = urlsplit(facts.url).hostname
    kinds = (
        ("skill", "text/markdown", "/skill.md"),
        ("mcp", MCP_CARD_TYPE, "/mcp/server-card"),
    )
    entries = [
        {
            "identifier": f"urn:air:{host}:{kind}:{SKILL}",
            "type": media_type,
            "url": f"{facts.url}{path}",
        }
        for kind, media_type, path in kinds
    ]
    return {"specVersion": "1.0", "entries": entries}


def mcp_card(facts: Facts) -> dict[str, Any]:
    """Returns the card of the MCP server at `/mcp` (SEP-2127)."""
    host = urlsplit(facts.url).hostname or "localhost"
    return {
        "$schema": _SCHEMA,
        "name": f"{'.'.join(reversed(host.split('.')))}/{SKILL}",
        "version": __version__,
        "title": NAME,
        "description": SUMMARY,
        "remotes": [
            {
                "type": "streamable-http",
                "url": f"{facts.url}/mcp",
                "supportedProtocolVersions": MCP_PROTOCOL_VERSIONS,
            }
        ],
    }
