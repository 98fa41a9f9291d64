"""Queries over apps: projects, deployments, jobs, run intervals, domains."""
