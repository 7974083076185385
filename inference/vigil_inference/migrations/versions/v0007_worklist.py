"""What the worklist is filtered by and marked with: who reads, search, findings."""

import sqlalchemy as sa
from alembic import op

from vigil_inference.folding import searchable
from vigil_inference.records import AnalysisRecord

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TIME = sa.DateTime(timezone=True)
_TEXTS = (
    "assigned_to", "assigned_name", "being_read_by", "being_read_name", "search_text",
)  # fmt: skip
_TIMES = ("assigned_at", "being_read_until")
_INDEXES = {
    "ix_studies_counted": [
        "priority_rank", "read_at", "state", "received_at", "being_read_until", "assigned_to",
    ],
    "ix_studies_patient_id": ["patient_id"],
}  # fmt: skip
_UNREAD = "ix_studies_unread"
_AT_ONCE = 500


def upgrade() -> None:
    """Add them, and fill them from what is known."""
    with op.batch_alter_table("studies") as studies:
        for name in _TEXTS:
            studies.add_column(sa.Column(name, sa.Text(), nullable=False, server_default=""))
        for name in _TIMES:
            studies.add_column(sa.Column(name, _TIME))
        for name, columns in _INDEXES.items():
            studies.create_index(name, columns)
    unread = sa.text("read_at IS NULL")
    op.create_index(
        _UNREAD,
        "studies",
        ["reading_order", "received_at", "id"],
        sqlite_where=unread,
        postgresql_where=unread,
    )
    op.create_table(
        "study_findings",
        sa.Column("study_id", _KEY, sa.ForeignKey("studies.id"), primary_key=True),
        sa.Column("finding", sa.String(64), primary_key=True),
    )
    op.create_index("ix_study_findings_by_finding", "study_findings", ["finding", "study_id"])
    _fill_search()
    _fill_findings()


def _fill_search() -> None:
    studies = sa.table(
        "studies",
        *(
            sa.column(name)
            for name in ("id", "patient_name", "patient_id", "accession_number", "search_text")
        ),
    )
    connection = op.get_bind()
    statement = sa.update(studies).where(studies.c.id == sa.bindparam("study"))
    last = -1
    while rows := connection.execute(
        sa.select(
            studies.c.id, studies.c.patient_name, studies.c.patient_id, studies.c.accession_number
        )
        .where(studies.c.id > last)
        .order_by(studies.c.id)
        .limit(_AT_ONCE)
    ).all():
        connection.execute(
            statement.values(search_text=sa.bindparam("text")),
            [{"study": row[0], "text": searchable(*row[1:])} for row in rows],
        )
        last = rows[-1][0]


def _fill_findings() -> None:
    instances = sa.table(
        "instances",
        sa.column("id"),
        sa.column("study_id"),
        sa.column("state"),
        sa.column("result", sa.JSON()),
    )
    findings = sa.table("study_findings", sa.column("study_id"), sa.column("finding"))
    connection = op.get_bind()
    last = -1
    known: set[tuple[int, str]] = set()
    while rows := connection.execute(
        sa.select(instances.c.id, instances.c.study_id, instances.c.result)
        .where(instances.c.id > last, instances.c.state == "analysed")
        .order_by(instances.c.id)
        .limit(_AT_ONCE)
    ).all():
        fresh = {
            (row[1], finding.label)
            for row in rows
            if row[2] is not None
            for finding in AnalysisRecord.model_validate(row[2]).findings
            if finding.flagged
        } - known
        if fresh:
            connection.execute(
                sa.insert(findings),
                [{"study_id": study, "finding": finding} for study, finding in sorted(fresh)],
            )
        known |= fresh
        last = rows[-1][0]


def downgrade() -> None:
    """Drop them: who read what is not known any more."""
    op.drop_table("study_findings")
    for name in (*_INDEXES, _UNREAD):
        op.drop_index(name, "studies")
    for name in (*_TEXTS, *_TIMES):
        op.drop_column("studies", name)
