"""Projects and their deployments: the upload, the workflow, the worker that runs it."""
