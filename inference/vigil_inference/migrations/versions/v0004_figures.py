"""Indexes for what an administrator asks again and again: counts, and what is new."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make them."""
    with op.batch_alter_table("instances") as instances:
        instances.create_index("ix_instances_work", ["received_at", "door", "state", "code"])
        instances.create_index("ix_instances_analysed_at", ["analysed_at"])
    with op.batch_alter_table("deliveries") as deliveries:
        deliveries.create_index("ix_deliveries_delivered_at", ["delivered_at"])
        deliveries.create_index("ix_deliveries_sent_at", ["sent_at"])


def downgrade() -> None:
    """Drop them."""
    with op.batch_alter_table("deliveries") as deliveries:
        deliveries.drop_index("ix_deliveries_sent_at")
        deliveries.drop_index("ix_deliveries_delivered_at")
    with op.batch_alter_table("instances") as instances:
        instances.drop_index("ix_instances_analysed_at")
        instances.drop_index("ix_instances_work")
