"""The shapes of the HTTP contract, one module a subject: gateway, client and OpenAPI share them."""
