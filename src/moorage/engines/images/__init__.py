"""Container images: what they are built on, their layers and manifests, and registries."""
