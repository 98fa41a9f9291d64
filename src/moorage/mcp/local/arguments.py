"""What `deploy` and `quote` take where the files are on this machine."""

from typing import Annotated

from msgspec import Meta

from moorage.mcp.tools.arguments import App, Chain, Deploy, Token

Directory = Annotated[
    str, Meta(description="its absolute path; .gitignore and .moorageignore count", min_length=1)
]


class DeployDirectory(Deploy, frozen=True, kw_only=True):
    """What is deployed, and how it is paid for."""

    directory: Directory
    max_usd: Annotated[float, Meta(description="pay at most this", ge=0)] | None = None


class QuoteDirectory(App, frozen=True, kw_only=True):
    """What would be deployed."""

    directory: Directory
    chain: Chain | None = None
    token: Token | None = None
