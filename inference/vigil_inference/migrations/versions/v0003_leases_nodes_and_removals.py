"""Leases on pictures and on releases, the nodes, and what was removed by rule."""

import sqlalchemy as sa
from alembic import op
from alembic.operations import BatchOperations

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Add the columns and tables. Pictures that wait are free for whoever comes first."""
    with op.batch_alter_table("studies") as studies:
        _add_lease(studies)
    with op.batch_alter_table("instances") as instances:
        _add_lease(instances)
        _add_removal(instances)
        instances.add_column(sa.Column("stored_at", _TIME))
        instances.create_index("ix_instances_kept", ["removed_at", "stored_at"])
    op.execute("UPDATE instances SET stored_at = received_at")
    with op.batch_alter_table("result_objects") as objects:
        _add_removal(objects)
        objects.create_index("ix_result_objects_kept", ["removed_at"])
    op.create_table(
        "nodes",
        sa.Column("id", sa.String(16), primary_key=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("process_id", sa.Integer(), nullable=False),
        sa.Column("software_version", sa.Text(), nullable=False),
        sa.Column("bundle_id", sa.Text(), nullable=False),
        sa.Column("bundle_digest", sa.String(64), nullable=False),
        sa.Column("problem", sa.Text(), nullable=False),
        sa.Column("in_work", sa.Integer(), nullable=False),
        sa.Column("started_at", _TIME, nullable=False),
        sa.Column("seen_at", _TIME, nullable=False),
    )
    op.create_index("ix_nodes_seen_at", "nodes", ["seen_at"])
    op.create_table(
        "installation",
        sa.Column("id", _KEY, primary_key=True),
        sa.Column("identity", sa.String(36), nullable=False),
    )


def downgrade() -> None:
    """Drop them. What was removed stays removed, and nobody is told any more."""
    op.drop_table("installation")
    op.drop_table("nodes")
    with op.batch_alter_table("result_objects") as objects:
        objects.drop_index("ix_result_objects_kept")
        objects.drop_column("removal_reason")
        objects.drop_column("removed_at")
    with op.batch_alter_table("instances") as instances:
        instances.drop_index("ix_instances_kept")
        for column in ("stored_at", "removal_reason", "removed_at", "leased_until", "owner"):
            instances.drop_column(column)
    with op.batch_alter_table("studies") as studies:
        studies.drop_column("leased_until")
        studies.drop_column("owner")


def _add_lease(table: BatchOperations) -> None:
    table.add_column(sa.Column("owner", sa.String(32), nullable=False, server_default=""))
    table.add_column(sa.Column("leased_until", _TIME))


def _add_removal(table: BatchOperations) -> None:
    table.add_column(sa.Column("removed_at", _TIME))
    table.add_column(sa.Column("removal_reason", sa.Text(), nullable=False, server_default=""))
