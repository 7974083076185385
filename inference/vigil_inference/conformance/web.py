"""DICOMweb: transactions, parameters, media types and statuses."""

from collections.abc import Iterable

from fastapi import APIRouter
from fastapi.routing import APIRoute
from pydicom.uid import UID

from vigil_inference import dicomweb, dicomweb_query, dicomweb_rendered, dicomweb_retrieve
from vigil_inference.conformance.markdown import table, template
from vigil_inference.settings import Settings


def describe_web() -> str:
    """Return the sections on DICOMweb."""
    store = [(code, said["description"]) for code, said in dicomweb.RESPONSES.items()]
    frames = [
        (UID(uid).name, f"`{uid}`", f"`{kind}`")
        for uid, kind in dicomweb_retrieve.IMAGE_TYPES.items()
    ]
    levels = (
        ("studies", dicomweb_query.STUDY_KEYS),
        ("series", dicomweb_query.STUDY_KEYS | dicomweb_query.SERIES_KEYS),
        (
            "instances",
            dicomweb_query.STUDY_KEYS | dicomweb_query.SERIES_KEYS | dicomweb_query.INSTANCE_KEYS,
        ),
    )
    return template("web").format(
        port=Settings.model_fields["http_port"].default,
        most=Settings.model_fields["stow_max_bytes"].default,
        store=_routes(dicomweb.router),
        store_statuses=table(("status", "when"), store),
        search=_routes(dicomweb_query.router),
        keys="\n".join(f"| {level} | {', '.join(keys)} |" for level, keys in levels),
        retrieve=_routes(dicomweb_retrieve.router, dicomweb_rendered.router),
        frames=table(("Transfer syntax", "UID", "Media type"), frames),
    )


def _routes(*routers: APIRouter) -> str:
    rows: Iterable[tuple[str, str, str]] = (
        (
            ", ".join(sorted(route.methods or ())),
            "`" + route.path.replace("_instance_uid", "").replace("{sop}", "{instance}") + "`",
            (route.description or "").partition("\n")[0],
        )
        for router in routers
        for route in router.routes
        if isinstance(route, APIRoute)
    )
    return table(("Method", "Resource", "What it does"), rows)
