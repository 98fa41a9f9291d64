"""Which kind of engine has a deployment's files."""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema to this revision. The gateway that keeps the apps notes the earlier ones."""
    engine = sa.Column("engine", sa.Text(), server_default="", nullable=False)
    op.add_column("deployments", engine)
