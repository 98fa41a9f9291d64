"""Moorage: a self-hosted gateway where an agent deploys an app by paying for it."""

__version__ = "0.1.0"
