"""The HTTP surface: routes, problems, OpenAPI, and the composition root."""
