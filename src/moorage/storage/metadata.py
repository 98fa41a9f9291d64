"""What all tables share: their registry, and how constraints and indexes are made."""

from sqlalchemy import CheckConstraint, Index, MetaData, text

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def one_of(name: str, *values: str) -> CheckConstraint:
    """A column with the values of an enum."""
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{name} IN ({listed})", name=f"{name}_known")


def partial_index(name: str, *columns: str, where: str, unique: bool = False) -> Index:
    """An index of the rows for which a condition holds.

    `migrate` applies it to PostgreSQL too: the option for that here would have SQLAlchemy import
    that dialect, some 2 MiB, in each gateway.
    """
    return Index(name, *columns, unique=unique, sqlite_where=text(where))
