"""What the report answers of CLAIM (2024) and TRIPOD+AI (2024), and who must answer the rest.

The items stand in ``checklists.toml`` in our own words; the guidelines' text is copied nowhere.
CLAIM is that of the 2024 update, with the numbers of the 2020 edition where they differ.
"""

import tomllib
from importlib.resources import files

from vigil_training.report.contents import Checklist, ChecklistItem

_WITHOUT = {
    "external": "no source that the bundle was not trained on was evaluated: add one",
    "maps": "no film has a box, and no failure is shown",
    "failures": "no failure is shown: leave out --no-pictures, or there was none",
    "others": "the split leaves no film out: give the training's films in the same manifest",
}


def checklists(present: frozenset[str]) -> tuple[Checklist, ...]:
    """Return both guidelines; ``present`` names the optional sections that have contents."""
    text = files("vigil_training.report").joinpath("checklists.toml").read_text(encoding="utf-8")
    return tuple(
        Checklist(
            name=one["name"],
            citation=one["citation"],
            edition=one["edition"],
            items=tuple(_item(cells, present, one.get("earlier", {})) for cells in one["items"]),
        )
        for one in tomllib.loads(text)["checklist"]
    )


def _item(cells: list[str], present: frozenset[str], earlier: dict[str, str]) -> ChecklistItem:
    number, topic, answer, where, note = cells[:5]
    needs = cells[5] if len(cells) > 5 else ""
    if needs and needs not in present:
        answer, where, note = "not here", "", _WITHOUT[needs]
    said = {"number": number, "topic": topic, "answer": answer, "where": where, "note": note}
    return ChecklistItem.model_validate({**said, "earlier": earlier.get(number)})
