"""Logs: of a deployment, of a project across its deployments, followed as they come."""
