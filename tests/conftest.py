"""Fixtures that several kinds of tests share, one module a subject."""

pytest_plugins = [
    "chain_fixture",
    "rootless_fixture",
    "sandbox_fixture",
    "small_apps",
    "gateway_fixture",
    "records_fixture",
    "desk_fixture",
]
