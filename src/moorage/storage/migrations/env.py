"""Runs alembic's revisions on the connection that `migrate` passes, or writes them as SQL."""

from alembic import context

from moorage.storage.schema import metadata

if context.is_offline_mode():  # for a PostgreSQL server: `migrate` has a transaction around it
    context.configure(dialect_name="postgresql+asyncpg", transactional_ddl=False)
else:
    context.configure(
        connection=context.config.attributes["connection"],
        target_metadata=metadata,
        render_as_batch=True,
    )
with context.begin_transaction():
    context.run_migrations()
