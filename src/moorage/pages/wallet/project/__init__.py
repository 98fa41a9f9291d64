"""The pages of one project: its app, deployments, logs, use, variables, domains, settings."""
