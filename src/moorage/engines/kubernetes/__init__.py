"""The Kubernetes engine: builds in pods and runs apps as Deployments of a cluster."""
