"""Moorage for agents that speak the Model Context Protocol: tools, on two servers.

`tools` says what the tools are; `server` lists them and reads calls, for both. `local` is a client:
it runs beside the agent, holds the key and deploys directories. `remote` is part of the gateway, at
`/mcp`.
"""
