"""Print the conformance statement."""

import sys

from vigil_inference.conformance.statement import make_statement

sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
sys.stdout.write(make_statement())
