"""Plans apps from simple Dockerfiles: plain language images, and commands that need no root."""
