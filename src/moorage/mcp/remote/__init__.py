"""The server at a gateway (`/mcp`): it keeps nothing, and calls the gateway's own API."""
