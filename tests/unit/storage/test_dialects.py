import re
from collections.abc import Iterator

import pytest
from sqlalchemy import Dialect, bindparam, select
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.dialects.sqlite.base import SQLiteDialect
from sqlalchemy.schema import CreateIndex, CreateTable

from moorage.records.payments import PaymentStatus
from moorage.storage.database import Statement
from moorage.storage.schema import metadata, payments
from support.books.statements import statements

DIALECTS: list[Dialect] = [SQLiteDialect(), PGDialect()]  # type: ignore[no-untyped-call]


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


def test_postgresql_takes_no_number_for_a_32_bit_one() -> None:
    """Beside a literal it would: `$1 = 0` makes `$1` an integer of 32 bits, whatever follows."""
    dialect: Dialect = PGDialect_asyncpg()  # type: ignore[no-untyped-call]
    texts = {found.compiled(dialect).sql for found in statements()}
    assert len(texts) > 150
    assert not [text for text in texts if any(map(_BESIDE_LITERAL.search, _first_uses(text)))]


_BESIDE_LITERAL = re.compile(r"(?<![$\w.])\d+ ?[-=<>!+*/]+ ?@|@ ?[-=<>!+*/]+ ?\d")


def _first_uses(text: str) -> Iterator[str]:
    """Yields what stands around the first use of each parameter, which is what decides its type."""
    for number in set(re.findall(r"\$(\d+)", text)):
        before, after = re.split(rf"\${number}(?!\d)", text, maxsplit=1)
        yield f"{before[-20:]}@{after[:20]}"
