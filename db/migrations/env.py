"""Alembic's entry: runs the migrations on the connection that `vrcli.db.versions` hands over, in its transaction."""

from alembic import context

from vrcli.db import schema

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=schema.metadata,
    version_table=schema.VERSION_TABLE,
    transactional_ddl=True,  # SQLite can, though Alembic does not assume it
)
with context.begin_transaction():
    context.run_migrations()
