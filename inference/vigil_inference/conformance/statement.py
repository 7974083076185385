"""The statement as a whole, in the order of DICOM PS3.2 annex N."""

from vigil_inference.conformance.objects import describe_objects
from vigil_inference.conformance.overview import describe_overview
from vigil_inference.conformance.receiving import describe_receiving
from vigil_inference.conformance.security import describe_security
from vigil_inference.conformance.sending import describe_sending
from vigil_inference.conformance.web import describe_web


def make_statement() -> str:
    """Return the conformance statement in Markdown."""
    parts = (
        describe_overview(),
        describe_receiving(),
        describe_sending(),
        describe_web(),
        describe_objects(),
        describe_security(),
    )
    return "\n\n".join(part.strip() for part in parts) + "\n"
