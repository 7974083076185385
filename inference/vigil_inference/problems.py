"""How an error is told over HTTP: a status, a stable code, and a sentence (RFC 9457)."""

from collections.abc import Mapping

from fastapi.responses import JSONResponse

from vigil_inference.views import Problem


def problem_response(
    status: int, code: str, message: str, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """Return the answer to a request that met an error."""
    return JSONResponse(
        Problem(code=code, message=message).model_dump(),
        status,
        headers=dict(headers or {}),
        media_type="application/problem+json",
    )
