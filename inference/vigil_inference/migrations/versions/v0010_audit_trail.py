"""The audit trail, which only grows: the database itself refuses to change or remove a row."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_SQLITE = (
    "CREATE TRIGGER audit_events_stay BEFORE UPDATE ON audit_events BEGIN "
    "SELECT RAISE(ABORT, 'the audit trail is append-only'); END",
    "CREATE TRIGGER audit_events_remain BEFORE DELETE ON audit_events BEGIN "
    "SELECT RAISE(ABORT, 'the audit trail is append-only'); END",
    "CREATE TRIGGER audit_head_advances BEFORE UPDATE ON audit_head "
    "WHEN NEW.last_id <= OLD.last_id BEGIN "
    "SELECT RAISE(ABORT, 'the audit trail is append-only'); END",
    "CREATE TRIGGER audit_head_remains BEFORE DELETE ON audit_head BEGIN "
    "SELECT RAISE(ABORT, 'the audit trail is append-only'); END",
)
_POSTGRESQL = (
    "CREATE FUNCTION audit_trail_stays() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN RAISE EXCEPTION 'the audit trail is append-only'; END $$",
    "CREATE TRIGGER audit_events_stay BEFORE UPDATE OR DELETE ON audit_events "
    "FOR EACH ROW EXECUTE FUNCTION audit_trail_stays()",
    "CREATE TRIGGER audit_events_remain BEFORE TRUNCATE ON audit_events "
    "FOR EACH STATEMENT EXECUTE FUNCTION audit_trail_stays()",
    "CREATE TRIGGER audit_head_advances BEFORE UPDATE ON audit_head FOR EACH ROW "
    "WHEN (NEW.last_id <= OLD.last_id) EXECUTE FUNCTION audit_trail_stays()",
    "CREATE TRIGGER audit_head_remains BEFORE DELETE ON audit_head "
    "FOR EACH ROW EXECUTE FUNCTION audit_trail_stays()",
)


def upgrade() -> None:
    """Make it."""
    op.create_table(
        "audit_events",
        sa.Column("id", _KEY, primary_key=True, autoincrement=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("account", sa.String(80), nullable=False),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("study_instance_uid", sa.String(64), nullable=False),
        sa.Column("outcome", sa.Integer, nullable=False),
        sa.Column("detail", sa.String(200), nullable=False),
        sa.Column("address", sa.String(64), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
    )
    op.create_index("ix_audit_events_study", "audit_events", ["study_instance_uid", "id"])
    op.create_index("ix_audit_events_account", "audit_events", ["account", "id"])
    head = op.create_table(
        "audit_head",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("last_id", _KEY, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
    )
    op.bulk_insert(head, [{"id": 1, "last_id": 0, "sha256": "0" * 64}])
    is_sqlite = op.get_context().dialect.name == "sqlite"
    for statement in _SQLITE if is_sqlite else _POSTGRESQL:
        op.execute(statement)


def downgrade() -> None:
    """Drop it."""
    op.drop_table("audit_head")
    op.drop_table("audit_events")
    if op.get_context().dialect.name != "sqlite":
        op.execute("DROP FUNCTION audit_trail_stays")
