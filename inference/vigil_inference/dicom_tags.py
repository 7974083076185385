"""A file's DICOM attributes, for a person who looks something up."""

from collections.abc import Iterator
from pathlib import Path

from pydicom import DataElement, Dataset
from pydicom.datadict import dictionary_description
from pydicom.multival import MultiValue

from vigil.dicom import read_header
from vigil.elements import without_escapes
from vigil_inference.picture_views import TagView

_LONGEST = 256
_MOST_TAGS = 2000
_DEEPEST = 6
_PIXEL_GROUP = 0x7FE0


def read_tags(path: Path) -> tuple[TagView, ...]:
    """Return the attributes of a file up to its pixels, those of sequences after their sequence.

    Raises
    ------
    ImageRefused
        ``FILE_UNREADABLE`` if there is no header to read.
    """
    dataset = read_header(path)
    found: list[TagView] = []
    meta = getattr(dataset, "file_meta", None)
    for part in (meta, dataset):
        if part is None:
            continue
        for tag in _tags(part, 0):
            if len(found) == _MOST_TAGS:
                return tuple(found)
            found.append(tag)
    return tuple(found)


def _tags(dataset: Dataset, level: int) -> Iterator[TagView]:
    for tag in sorted(dataset.keys()):
        if tag.group == _PIXEL_GROUP:
            continue
        try:
            element = dataset[tag]
        except Exception:  # pydicom raises whatever a damaged value makes it meet
            yield TagView(tag=_number(tag), name=_name(tag), vr="", value="?", level=level)
            continue
        if element.VR == "SQ":
            items = list(element.value or ())
            yield _view(element, f"{len(items)} ×", level)
            if level < _DEEPEST:
                for item in items:
                    yield from _tags(item, level + 1)
        else:
            yield _view(element, _text(element), level)


def _view(element: DataElement, value: str, level: int) -> TagView:
    cut = len(value) > _LONGEST
    return TagView(
        tag=_number(element.tag),
        name=_name(element.tag),
        vr=str(element.VR),
        value=value[: _LONGEST - 1] + "…" if cut else value,
        level=level,
    )


def _text(element: DataElement) -> str:
    value = element.value
    if value is None:
        return ""
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    values = value if isinstance(value, MultiValue | list | tuple) else [value]
    # Far more than is shown need not be written out first.
    return "\\".join(without_escapes(str(item)).strip() for item in values[: _LONGEST + 1])


def _number(tag: int) -> str:
    return f"{tag >> 16:04X},{tag & 0xFFFF:04X}"


def _name(tag: int) -> str:
    try:
        return dictionary_description(tag)
    except KeyError:
        return ""
