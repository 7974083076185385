"""Runs the migrations on the connection that ``store.migrate`` hands over."""

from alembic import context

# Makes their tables known to Base.
import vigil_inference.access.tables
import vigil_inference.audit.tables
import vigil_inference.delivery.tables
import vigil_inference.promotion.tables
import vigil_inference.reading.tables  # noqa: F401
from vigil_inference.tables import Base


def run() -> None:
    """Apply the steps that are missing, all in one transaction."""
    context.configure(
        connection=context.config.attributes["connection"],
        target_metadata=Base.metadata,
        render_as_batch=True,
    )
    with context.begin_transaction():
        context.run_migrations()


# Alembic runs this file under this name; imported like any other module it only defines.
if __name__ == "env_py":
    run()
