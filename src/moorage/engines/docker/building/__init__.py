"""Builds the images of deployments with Docker's builder."""
