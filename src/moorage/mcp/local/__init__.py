"""The server beside the agent (`moorage mcp`): it holds the key, and deploys directories.

A client like the command line: it knows the gateway by HTTP alone. What it pays is within a budget.
"""
