"""Fixtures that several kinds of tests share, one module a subject."""

import gc
import os
import re

import pytest
import structlog
from hypothesis import HealthCheck, settings

# However long examples take, as the machine may be busy; the same ones in each run, as what fails
# by chance shows nothing, unless somebody looks for new ones.
settings.register_profile(
    "unhurried",
    derandomize="EXPLORE" not in os.environ,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("unhurried")

# Left to itself, structlog takes a second to draw an exception: with all variables of its frames.
structlog.configure(
    processors=[
        *structlog.get_config()["processors"][:-1],
        structlog.dev.ConsoleRenderer(
            colors=False, exception_formatter=structlog.dev.plain_traceback
        ),
    ]
)

# Most objects of a run are made while tests are collected, and live until it ends. To look for
# garbage among them again and again takes a third of that time: it is looked for once.
gc.disable()

pytest_plugins = [
    "support.gateway.shared_directories",
    "support.books.database_option",
    "support.chains.chain_fixture",
    "support.engines.sandbox_fixture",
    "support.gateway.content_fixture",
    "support.engines.docker_fixture",
    "support.engines.own_image_fixture",
    "support.engines.kubernetes_fixture",
    "support.engines.small_apps",
    "support.engines.kubernetes_engine_fixture",
    "support.engines.runtime_fixture",
    "support.gateway.gateway_fixture",
    "support.books.postgres_fixture",
    "support.books.records_fixture",
    "support.chains.desk_fixture",
]


OTHER_ENGINES = {"dockerd", "docker", "image", "fake_cluster", "tested_cluster", "cluster_registry"}
"""Fixtures of the engines besides the sandbox."""

EXTENDED = re.compile(
    r"tests/(corpus|soak|hostile/availability)/(?!test_proxy\.|test_crowds\.)"
    r"|tests/faults/test_(server|pair)_matrix\."
    r"|tests/faults/test_fault_matrix\..*\[(hash|authorization|transaction)"  # x402 stays
    r"|tests/clients/(?!test_clients\.py::test_client_that_authorizes.*"
    r"\[pay_(mppx\.mjs-arbitrum|x402\.py-base)\])"
    r"|tests/pages/test_(page_quality|pages_on_postgres|accessibility_tree)\."
    r"|tests/contract/test_(containerfile|alarms|parsers|moved_books|units)\."
    r"|tests/flows/test_(backup|bare_machine|chaos|configuration|engine_moves|examples|gateway_pair|guestbook"
    r"|machines|leaving|logs_flow|operators_book|other_versions|postgres_flow|redeploy_load"
    r"|rollbacks|sleeping_apps|visitors_while_gateways_restart|year|year_of_losses)\."
    r"|tests/flows/test_two_wheels\.(?!py::test_(each_file|client_holds|client_is_small))"
)
"""Tests that `make test` leaves to `make test-all`, by their ids: the long flows, apps of others,
the matrix of faults but for one way to pay, clients of others but for two."""


def is_extended(item: pytest.Function) -> bool:
    """Whether a test stands in `make test-all` alone."""
    if item.nodeid.startswith("tests/unit/"):
        return False
    values = item.callspec.params.values() if hasattr(item, "callspec") else ()
    engines = {value for value in values if isinstance(value, str)} & {"docker", "kubernetes"}
    others = OTHER_ENGINES & set(item.fixturenames)
    return bool(engines or others or EXTENDED.match(item.nodeid))


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    """Tests of a file share its gateway and chains, so one worker runs them all.

    Unless the file says `spread(name)`: then other values of that parameter may go elsewhere. Long
    ones come first, so that at the end no worker has one left while the others have nothing.
    """
    for item in items:
        group = item.path.stem
        for spread in item.iter_markers("spread"):
            params = item.callspec.params if hasattr(item, "callspec") else {}
            group += f"-{params.get(spread.args[0], '')}"
        item.add_marker(pytest.mark.xdist_group(group))
        if is_extended(item):
            item.add_marker(pytest.mark.extended)
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


def pytest_collection_finish() -> None:
    """From here on garbage is looked for among what tests make."""
    gc.collect()
    gc.freeze()
    gc.enable()
