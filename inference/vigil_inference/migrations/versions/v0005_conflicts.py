"""An index for the objects under whose UID other bytes came: few, and asked for at every look."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make it."""
    with op.batch_alter_table("instances") as instances:
        instances.create_index("ix_instances_conflicts", ["conflicts"])


def downgrade() -> None:
    """Drop it."""
    with op.batch_alter_table("instances") as instances:
        instances.drop_index("ix_instances_conflicts")
