import gc
import importlib
import pkgutil

import pytest
from sqlalchemy import Dialect, bindparam, select
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.dialects.sqlite.base import SQLiteDialect
from sqlalchemy.schema import CreateIndex, CreateTable

from moorage import storage
from moorage.records.money.payment import PaymentStatus
from moorage.storage.database import Statement
from moorage.storage.schema import metadata, payments

DIALECTS: list[Dialect] = [SQLiteDialect(), PGDialect()]  # type: ignore[no-untyped-call]


def statements() -> list[Statement]:
    for module in pkgutil.walk_packages(storage.__path__, f"{storage.__name__}."):
        if ".migrations" not in module.name:
            importlib.import_module(module.name)
    return [found for found in gc.get_objects() if isinstance(found, Statement)]


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_every_statement_compiles_for_every_dialect(dialect: Dialect) -> None:
    texts = [found.compiled(dialect).sql for found in statements()]
    assert len(texts) > 150
    assert not [text for text in texts if "rowid" in text or "json_extract" in text]


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_constants_are_written_into_the_text(dialect: Dialect) -> None:
    named = payments.c.payer == bindparam("payer")
    is_reversed = payments.c.status == PaymentStatus.REVERSED
    compiled = Statement(select(payments.c.tx_hash).where(named, is_reversed)).compiled(dialect)
    assert "status = 'reversed'" in compiled.sql
    assert not compiled.fixed


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_every_table_can_be_made_in_every_dialect(dialect: Dialect) -> None:
    for table in metadata.sorted_tables:
        assert str(CreateTable(table).compile(dialect=dialect))
        assert all(str(CreateIndex(it).compile(dialect=dialect)) for it in table.indexes)


def test_truth_values_have_defaults_that_postgresql_takes() -> None:
    made = [str(CreateTable(it).compile(dialect=DIALECTS[1])) for it in metadata.sorted_tables]
    lines = [line.strip() for text in made for line in text.splitlines() if "BOOLEAN" in line]
    assert lines
    assert not [line for line in lines if "DEFAULT 0" in line or "DEFAULT 1" in line]
