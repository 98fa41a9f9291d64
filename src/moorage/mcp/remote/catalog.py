"""The tools as the gateway's own server lists them."""

import msgspec

from moorage.mcp.remote.arguments import COMMON, DeployUpload, QuoteUpload
from moorage.mcp.tools.catalog import Tool, catalog


def remote_tools() -> tuple[Tool, ...]:
    """Returns the tools; each takes a manage token beside its own arguments."""
    tools = catalog(deploys=DeployUpload, quotes=QuoteUpload, files="files")
    return tuple(msgspec.structs.replace(tool, common=COMMON) for tool in tools)
