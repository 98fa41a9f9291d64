"""A Kubernetes cluster of one node for tests: an API server on loopback, with the controllers,
scheduler and kubelet that the engine relies on. `test_kubernetes_api.py` holds it against a real
one."""
