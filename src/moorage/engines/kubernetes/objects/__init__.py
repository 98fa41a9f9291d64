"""The objects of a cluster as pure data: a frozen record in, a manifest out.

`tests/unit/engines/kubernetes/golden` has one of each, whole.
"""
