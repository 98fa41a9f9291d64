"""What the files of a deployment hold that its deployer should know of."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema to this revision. Nothing is told of the files of earlier deployments."""
    findings = sa.Column("findings", sa.Text(), server_default="[]", nullable=False)
    op.add_column("deployments", findings)
