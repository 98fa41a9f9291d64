"""The schema of the first release.

It changes nothing: a new database gets the schema that is declared, whatever revision that is, and
there is none before this.
"""

revision = "release_1"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing: see above."""
