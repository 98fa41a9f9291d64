"""The option `--database`: the tests of rows are run on a file, or on a PostgreSQL server."""

import pytest

from moorage.storage.database import Database

ON_SERVER = "postgresql"


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--database postgresql` runs what uses the fixture `db`, and nothing else, on a server."""
    parser.addoption("--database", choices=["sqlite", ON_SERVER], default="sqlite")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--database") == ON_SERVER:
        config.pluginmanager.register(OnServer())


class OnServer:
    """Chooses the tests that any database can be used for."""

    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Function]
    ) -> None:
        chosen = [item for item in items if takes_any_database(item)]
        config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
        items[:] = chosen


def takes_any_database(item: pytest.Function) -> bool:
    """Whether a test is about rows, and provokes nothing that only a file suffers."""
    names = set(item.fixturenames)
    annotated = item.function.__annotations__.get("db", Database)
    return "db" in names and "db_path" not in names and annotated is Database
