"""Result sets, their objects, and deliveries."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the tables. Studies from before this step are not released by themselves."""
    with op.batch_alter_table("studies") as studies:
        studies.add_column(sa.Column("release_due_at", _TIME))
        studies.add_column(
            sa.Column("release_attempts", sa.Integer(), nullable=False, server_default="0")
        )
        studies.add_column(
            sa.Column("release_problem", sa.Text(), nullable=False, server_default="")
        )
        studies.create_index("ix_studies_release_due_at", ["release_due_at"])
    op.create_table(
        "result_sets",
        sa.Column("id", _KEY, primary_key=True),
        sa.Column("study_id", _KEY, sa.ForeignKey("studies.id"), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("basis", sa.String(64), nullable=False),
        sa.Column("objects", sa.JSON(), nullable=False),
        sa.Column("message_id", sa.String(64), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("released_at", _TIME, nullable=False),
        sa.UniqueConstraint("study_id", "number", name="uq_result_sets_number"),
    )
    op.create_table(
        "result_objects",
        sa.Column("id", _KEY, primary_key=True),
        sa.Column("result_set_id", _KEY, sa.ForeignKey("result_sets.id"), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("sop_class_uid", sa.String(64), nullable=False),
        sa.Column("sop_instance_uid", sa.String(64), nullable=False, unique=True),
        sa.Column("series_instance_uid", sa.String(64), nullable=False),
        sa.Column("instance_number", sa.Integer(), nullable=False),
        sa.Column("file_path", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
    )
    op.create_index("ix_result_objects_result_set_id", "result_objects", ["result_set_id"])
    op.create_table(
        "deliveries",
        sa.Column("id", _KEY, primary_key=True),
        sa.Column("study_id", _KEY, sa.ForeignKey("studies.id"), nullable=False),
        sa.Column("result_set_id", _KEY, sa.ForeignKey("result_sets.id"), nullable=False),
        sa.Column("result_object_id", _KEY, sa.ForeignKey("result_objects.id")),
        sa.Column("destination", sa.String(64), nullable=False),
        sa.Column("subject", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("due_at", _TIME, nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("checks", sa.Integer(), nullable=False),
        sa.Column("give_up_at", _TIME),
        sa.Column("code", sa.String(32), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("sent_at", _TIME),
        sa.Column("delivered_at", _TIME),
        sa.Column("owner", sa.String(32), nullable=False),
        sa.Column("leased_until", _TIME),
        sa.Column("commitment_uid", sa.String(64), nullable=False),
        sa.UniqueConstraint("destination", "subject", name="uq_deliveries_subject"),
    )
    op.create_index("ix_deliveries_due", "deliveries", ["destination", "state", "due_at"])
    op.create_index("ix_deliveries_study_id", "deliveries", ["study_id"])
    op.create_index("ix_deliveries_commitment_uid", "deliveries", ["commitment_uid"])


def downgrade() -> None:
    """Drop what was released and where it went."""
    op.drop_table("deliveries")
    op.drop_table("result_objects")
    op.drop_table("result_sets")
    with op.batch_alter_table("studies") as studies:
        studies.drop_index("ix_studies_release_due_at")
        studies.drop_column("release_problem")
        studies.drop_column("release_attempts")
        studies.drop_column("release_due_at")
