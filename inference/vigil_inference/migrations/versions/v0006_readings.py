"""What readers say, priorities raised by hand, and the key of pseudonyms."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the tables."""
    with op.batch_alter_table("studies") as studies:
        studies.add_column(sa.Column("read_at", _TIME))
        studies.add_column(sa.Column("read_by", sa.Text(), nullable=False, server_default=""))
    op.create_table(
        "reading_statements",
        sa.Column("id", _KEY, primary_key=True),
        sa.Column("study_id", _KEY, sa.ForeignKey("studies.id"), nullable=False),
        sa.Column("reader", sa.Text(), nullable=False),
        sa.Column("reader_name", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("statement_id", sa.String(36), nullable=False),
        sa.Column("act", sa.String(16), nullable=False),
        sa.Column("said_at", _TIME, nullable=False),
        sa.Column("sop_instance_uid", sa.String(64), nullable=False),
        sa.Column("label", sa.String(64), nullable=False),
        sa.Column("instead", sa.String(64), nullable=False),
        sa.Column("regions", sa.JSON(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("undoes", sa.String(36), nullable=False),
        sa.Column("confirmed", sa.JSON(), nullable=False),
        sa.Column("is_amendment", sa.Boolean(), nullable=False),
        sa.Column("finding_key", sa.Text(), nullable=False),
        sa.Column("bundle_id", sa.Text(), nullable=False),
        sa.Column("bundle_digest", sa.String(64), nullable=False),
        sa.Column("probability", sa.Float()),
        sa.Column("threshold", sa.Float()),
        sa.Column("flagged", sa.Boolean()),
        sa.Column("was_shown", sa.Boolean(), nullable=False),
        sa.Column("instead_model", sa.JSON()),
        sa.UniqueConstraint("study_id", "reader", "version", name="uq_reading_statements_version"),
        sa.UniqueConstraint("statement_id", name="uq_reading_statements_statement_id"),
    )
    op.create_index("ix_reading_statements_act", "reading_statements", ["act", "study_id"])
    op.create_table(
        "priority_raises",
        sa.Column("id", _KEY, primary_key=True),
        sa.Column("study_id", _KEY, sa.ForeignKey("studies.id"), nullable=False),
        sa.Column("request_id", sa.String(36), nullable=False, unique=True),
        sa.Column("priority_before", sa.String(16), nullable=False),
        sa.Column("priority", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("raised_by", sa.Text(), nullable=False),
        sa.Column("raised_by_name", sa.Text(), nullable=False),
        sa.Column("raised_at", _TIME, nullable=False),
    )
    op.create_index("ix_priority_raises_study_id", "priority_raises", ["study_id"])
    op.create_table(
        "pseudonym_keys",
        sa.Column("id", _KEY, primary_key=True),
        sa.Column("secret", sa.LargeBinary(32), nullable=False),
    )


def downgrade() -> None:
    """Drop what was said."""
    op.drop_table("pseudonym_keys")
    op.drop_table("priority_raises")
    op.drop_table("reading_statements")
    with op.batch_alter_table("studies") as studies:
        studies.drop_column("read_by")
        studies.drop_column("read_at")
