"""The served bundle's card as a page: what the model is for, what it must not do, its figures."""

import html
from pathlib import Path

from fastapi import APIRouter, Depends, Response

from vigil.bundle import default_bundle
from vigil.errors import BundleError
from vigil_inference.access.account import require
from vigil_inference.access.roles import Permission
from vigil_inference.api import NOT_FOUND, NotFound, Running
from vigil_inference.service import Service

_CARD = "MODEL_CARD.md"
_PAGE = """<!doctype html>
<html lang="en" data-theme="auto">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <meta name="color-scheme" content="dark light">
  <title>{title} · Vigil</title>
  <link rel="icon" href="/assets/icon.svg" type="image/svg+xml">
  <link rel="stylesheet" href="/assets/style.css">
  <link rel="stylesheet" href="/assets/viewer.css">
  <script type="module" src="/assets/viewer/theme.js"></script>
</head>
<body>
  <header class="bar"><a class="brand" href="/">
    <img src="/assets/icon.svg" alt="" width="26" height="26"><span>Vigil</span></a>
    <p class="notice">Research use only, not a medical device</p></header>
  <main class="card">{body}</main>
</body>
</html>
"""

router = APIRouter(
    tags=["Service"], dependencies=[Depends(require(Permission.SEE_WORKLIST))], responses=NOT_FOUND
)


@router.get("/api/model/card", response_class=Response)
def get_card(service: Running) -> Response:
    """Return the served bundle's card as it lies beside the weights, in Markdown."""
    return Response(_read(service), media_type="text/markdown; charset=utf-8")


@router.get("/model", include_in_schema=False)
def get_card_page(service: Running) -> Response:
    """Return the card as a page."""
    from markdown_it import MarkdownIt  # for the first who asks, not for every start

    card = _read(service)
    title = next((line[2:] for line in card.splitlines() if line.startswith("# ")), "Model card")
    # Raw HTML in a card is shown as text: a bundle may come from anybody.
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(card)
    body = body.replace("<table>", '<div class="wide" tabindex="0"><table>')
    body = body.replace("</table>", "</table></div>")
    return Response(_PAGE.format(title=html.escape(title), body=body), media_type="text/html")


def _read(service: Service) -> str:
    try:
        folder: Path = service.settings.bundle or default_bundle()
        return (folder / _CARD).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError, BundleError):
        raise NotFound("NO_MODEL_CARD", "the served bundle has no card beside it") from None
