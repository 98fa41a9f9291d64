"""Builds the images of deployments in pods of the cluster."""
