"""What runs in the pod of a build: it fetches files, keeps installs, packs a layer."""
