"""The tools as the gateway's own server lists them."""

import msgspec

from moorage.mcp.remote.arguments import COMMON, DeployUpload, QuoteUpload
from moorage.mcp.tools.catalog import Tool, catalog

OF_A_WALLET = frozenset({"list_projects", "credits", "events", "adopt"})
"""What these show or change is the whole wallet's: a token of one project does not cover it."""


def remote_tools() -> tuple[Tool, ...]:
    """Returns the tools; those that are about one project take its manage token as well."""
    tools = catalog(deploys=DeployUpload, quotes=QuoteUpload, files="files")
    return tuple(
        tool if tool.name in OF_A_WALLET else msgspec.structs.replace(tool, common=COMMON)
        for tool in tools
    )
