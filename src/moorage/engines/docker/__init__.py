"""The Docker engine: builds images and runs apps in containers of this machine's Docker."""
