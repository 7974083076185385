"""The site's bundles and their stages, and what was read in shadow."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the tables; the first start writes the bundle that the settings name into them."""
    op.create_table(
        "model_bundles",
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("bundle_id", sa.Text(), nullable=False),
        sa.Column("stage", sa.String(16), nullable=False),
        sa.Column("since", _TIME, nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("calibration_name", sa.Text(), nullable=False),
        sa.Column("calibration_digest", sa.String(64), nullable=False),
        sa.Column("calibration_source", sa.Text(), nullable=False),
        sa.Column("shadow_cursor", _TIME),
        sa.Column("shadow_dropped", sa.Integer(), nullable=False),
    )
    op.create_table(
        "model_changes",
        sa.Column("number", _KEY, primary_key=True, autoincrement=False),
        sa.Column("made_at", _TIME, nullable=False),
        sa.Column("made_by", sa.Text(), nullable=False),
        sa.Column("action", sa.String(16), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("bundle_id", sa.Text(), nullable=False),
        sa.Column("calibration_name", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("set_aside", sa.Text(), nullable=False),
        sa.Column("moves", sa.JSON(), nullable=False),
    )
    op.create_table(
        "shadow_readings",
        sa.Column("id", _KEY, primary_key=True),
        sa.Column("owner", sa.String(32), nullable=False, server_default=""),
        sa.Column("leased_until", _TIME),
        sa.Column("instance_id", _KEY, sa.ForeignKey("instances.id"), nullable=False),
        sa.Column("bundle_digest", sa.String(64), nullable=False),
        sa.Column("serving_digest", sa.String(64), nullable=False),
        sa.Column("is_supervising", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("problem", sa.Text(), nullable=False),
        sa.Column("record", sa.JSON()),
        sa.Column("read_at", _TIME),
        sa.UniqueConstraint("bundle_digest", "instance_id", name="uq_shadow_readings_picture"),
    )
    op.create_index("ix_shadow_readings_instance_id", "shadow_readings", ["instance_id"])
    op.create_index(
        "ix_shadow_readings_state", "shadow_readings", ["bundle_digest", "state", "attempts", "id"]
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_table("shadow_readings")
    op.drop_table("model_changes")
    op.drop_table("model_bundles")
