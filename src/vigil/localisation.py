"""How far a bundle's heat maps can be believed: measured by the trainer, shown by the service.

The figures stand in the bundle's ``metrics.json``, in the section named ``HEAT_MAPS``. That
file is no part of the bundle's digest, so it names the digest that it was measured on.
"""

import json
from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vigil.bundle import Bundle

HEAT_MAPS = "heat_maps"
_METRICS_NAME = "metrics.json"


class Localisation(BaseModel):
    """Maps against a radiologist's boxes, on films that took no part in the training.

    Attributes
    ----------
    films
        Marked films whose finding had a map that shows a place.
    without_map
        Marked films whose finding had none.
    hits
        Films whose hottest point lay in a box.
    hits_by_other_maps
        How many are expected of the same finding's maps of other films: what a map is worth that
        knows where findings usually are and nothing of this film.
    centre_distance, centre_distance_interval
        From the region's centre to the nearest box's centre, as a part of the picture's width: the
        mean, and its 95 % interval over patients.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    films: int = Field(ge=1)
    without_map: int = Field(ge=0)
    hits: int = Field(ge=0)
    hits_by_other_maps: float | None = Field(ge=0)
    centre_distance: float = Field(ge=0)
    centre_distance_interval: tuple[float, float] | None


def read_localisation(bundle: Bundle) -> Localisation | None:
    """Return what was measured of a bundle's maps.

    None where nothing was, where the file is damaged, and where it was measured on another bundle:
    no map may be shown with the figures of another.
    """
    try:
        content = json.loads((bundle.folder / _METRICS_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(content, Mapping) or content.get("digest") != bundle.digest:
        return None
    told: object = content
    for name in ("sections", HEAT_MAPS, "figures", "localisation"):
        told = told.get(name) if isinstance(told, Mapping) else None
    try:
        return None if told is None else Localisation.model_validate(told)
    except ValidationError:
        return None
