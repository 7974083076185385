"""The picture in a secondary capture: the radiograph, the heat map beside it, and a legend.

No name, number or date of the patient is drawn: the object's header holds them, and every viewer
shows it.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from io import BytesIO
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from vigil.anatomy import Line
from vigil.heat_map import emphasis_of, outline_of
from vigil.triage import Flag, Priority
from vigil_inference.results.language import DISCLAIMER, Phrases, percent

WIDTH = 1024
LARGEST_HEIGHT = 1024
MOST_FLAGS = 6
"""In the legend; the report holds all."""

_Colour = tuple[int, int, int]
_Picture = NDArray[np.uint8]
# Okabe and Ito's colours, which people with any colour vision can tell apart.
_COLOURS: tuple[_Colour, ...] = (
    (230, 159, 0), (86, 180, 233), (0, 200, 140), (240, 228, 66), (213, 94, 0), (204, 121, 167),
)  # fmt: skip
_PRIORITY_COLOURS = {
    Priority.CRITICAL: (200, 30, 45),
    Priority.URGENT: (196, 110, 0),
    Priority.ROUTINE: (70, 90, 110),
    Priority.NOT_ANALYSED: (70, 90, 110),
}
_BACKGROUND: _Colour = (14, 17, 21)
_BAND: _Colour = (27, 32, 39)
_RULE: _Colour = (58, 66, 77)
_WHITE: _Colour = (240, 243, 246)
_GREY: _Colour = (160, 170, 182)
_AMBER: _Colour = (255, 193, 60)

_MARGIN = 12
_HEADER = 52
_CAPTION = 36
_ROW = 34
_NOTE = 28
_FOOTER = 84
_PANEL = (WIDTH - 3 * _MARGIN) // 2
_STRONGEST = 0.7


@dataclass(frozen=True, eq=False)
class Drawing:
    """What is drawn.

    Attributes
    ----------
    pixels
        (rows, columns) uint16 or uint8 display values as analysed.
    maps
        Label to (h, w) in 0…1 over the whole picture as analysed.
    flags
        The most pressing first.
    priority
        The picture's.
    level
        Where an outline is drawn, see :func:`vigil.heat_map.outline_of`.
    note
        One sentence about the picture, such as a correction; may be empty.
    maker
        Which software and bundle.
    ratio
        The cardiothoracic ratio, a sentence; may be empty.
    lines
        The diameters that it was measured on, in 0…1 of the picture as analysed.
    """

    pixels: NDArray[np.uint16] | NDArray[np.uint8]
    maps: Mapping[str, NDArray[np.floating[Any]]]
    flags: tuple[Flag, ...]
    priority: Priority
    level: float
    note: str
    maker: str
    ratio: str = ""
    lines: tuple[Line, ...] = ()


def draw(drawing: Drawing, phrases: Phrases) -> _Picture:
    """Draw a capture.

    Returns
    -------
    NDArray[np.uint8]
        (rows, columns, 3) RGB, 1024 columns and at most 1024 rows.
    """
    flags = drawing.flags[:MOST_FLAGS]
    left_over = len(drawing.flags) - len(flags)
    more = phrases.more.format(left_over) if left_over else ""
    lines = [line for line in (more, drawing.ratio, drawing.note) if line]
    below = _CAPTION + len(flags) * _ROW + len(lines) * _NOTE + _MARGIN + _FOOTER
    radiograph = _fitted(drawing.pixels, LARGEST_HEIGHT - _HEADER - _MARGIN - below)
    height, width = radiograph.shape[:2]

    canvas = Image.new("RGB", (WIDTH, _HEADER + _MARGIN + height + below), _BACKGROUND)
    pen = ImageDraw.Draw(canvas)
    _header(pen, phrases, drawing.priority)
    top = _HEADER + _MARGIN
    panels = (
        (radiograph, phrases.original_panel, _MARGIN),
        (_heat(radiograph, drawing, flags), phrases.map_panel, 2 * _MARGIN + _PANEL),
    )
    for picture, caption, left in panels:
        indent = left + (_PANEL - width) // 2
        canvas.paste(Image.fromarray(picture), (indent, top))
        middle = left + _PANEL / 2
        _write(pen, (middle, top + height + 15), caption, 16, _GREY, "mm")
    y = top + height + _CAPTION
    for flag, colour in zip(flags, _COLOURS, strict=False):
        _legend_row(pen, y, flag, colour, phrases, has_map=_has_place(drawing, flag))
        y += _ROW
    for line in lines:
        _write(pen, (_MARGIN + 34, y + _NOTE / 2), line, 16, _GREY, "lm")
        y += _NOTE
    _footer(pen, canvas.height, phrases, drawing.maker)
    return np.asarray(canvas, np.uint8).copy()


def _fitted(pixels: NDArray[Any], most_rows: int) -> _Picture:
    """Return the radiograph as RGB, as large as its panel lets it be; never cropped."""
    grey = (pixels >> 8).astype(np.uint8) if pixels.dtype == np.uint16 else pixels
    rows, columns = grey.shape
    scale = min(_PANEL / columns, most_rows / rows)
    size = (max(1, round(columns * scale)), max(1, round(rows * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    resized = cv2.resize(grey, size, interpolation=method).astype(np.uint8, copy=False)
    return np.repeat(resized[..., np.newaxis], 3, axis=2)


def _heat(radiograph: _Picture, drawing: Drawing, flags: Sequence[Flag]) -> _Picture:
    """Lay the flags' maps over the radiograph, each in its colour and with its outline."""
    rows, columns = radiograph.shape[:2]
    picture = radiograph.astype(np.float32)
    shown = [
        (drawing.maps[flag.label], colour)
        for flag, colour in zip(flags, _COLOURS, strict=False)
        if _has_place(drawing, flag)
    ]
    for map_, colour in shown:
        emphasis = emphasis_of(map_)
        if emphasis is None:
            continue
        smooth = cv2.resize(emphasis, (columns, rows), interpolation=cv2.INTER_CUBIC)
        alpha = (_STRONGEST * np.clip(smooth, 0, 1) / len(shown) ** 0.5)[..., np.newaxis]
        picture = picture * (1 - alpha) + np.array(colour, np.float32) * alpha
    heat = np.rint(picture).astype(np.uint8)
    for map_, colour in shown:
        outline = outline_of(map_, drawing.level)
        if outline is not None:
            # Sixteenths of a pixel, so that the line is smooth.
            points = np.rint((outline * (columns, rows) - 0.5) * 16).astype(np.int32)
            cv2.polylines(heat, [points], True, (10, 10, 10), 4, cv2.LINE_AA, shift=4)
            cv2.polylines(heat, [points], True, colour, 2, cv2.LINE_AA, shift=4)
    for line in drawing.lines:
        points = np.rint((np.array(line) * (columns, rows) - 0.5) * 16).astype(np.int32)
        cv2.polylines(heat, [points], False, (10, 10, 10), 4, cv2.LINE_AA, shift=4)
        cv2.polylines(heat, [points], False, _WHITE, 2, cv2.LINE_AA, shift=4)
    return heat


def _has_place(drawing: Drawing, flag: Flag) -> bool:
    return flag.label in drawing.maps and emphasis_of(drawing.maps[flag.label]) is not None


def _header(pen: ImageDraw.ImageDraw, phrases: Phrases, priority: Priority) -> None:
    pen.rectangle((0, 0, WIDTH, _HEADER - 1), fill=_BAND)
    _write(pen, (_MARGIN, _HEADER / 2), "Vigil", 24, _WHITE, "lm", "Bold")
    start = _MARGIN + pen.textlength("Vigil", font=_font(24, "Bold")) + 14
    _write(pen, (start, _HEADER / 2), phrases.title, 20, _GREY, "lm")
    text = _composed(phrases.priorities[priority])
    length = pen.textlength(text, font=_font(20, "Bold"))
    right = WIDTH - _MARGIN
    box = (right - length - 28, 9, right, _HEADER - 10)
    pen.rounded_rectangle(box, 6, fill=_PRIORITY_COLOURS[priority])
    _write(pen, (right - 14, _HEADER / 2), text, 20, _WHITE, "rm", "Bold")


def _legend_row(
    pen: ImageDraw.ImageDraw,
    y: float,
    flag: Flag,
    colour: _Colour,
    phrases: Phrases,
    *,
    has_map: bool,
) -> None:
    """Draw a flag: its colour and name, its probability as a bar, its threshold as a notch."""
    middle = y + _ROW / 2
    square = (_MARGIN, middle - 9, _MARGIN + 18, middle + 9)
    pen.rounded_rectangle(square, 4, fill=colour if has_map else None, outline=colour, width=2)
    name = phrases.findings.get(flag.label, flag.label)
    if not has_map:
        name = f"{name} ({phrases.no_map})"
    _write(pen, (_MARGIN + 34, middle), name, 20, _WHITE, "lm", "Medium")
    left, right = 470.0, 740.0
    pen.rounded_rectangle((left, middle - 5, right, middle + 5), 5, fill=_RULE)
    reach = left + max(10.0, (right - left) * min(1.0, flag.probability))
    pen.rounded_rectangle((left, middle - 5, reach, middle + 5), 5, fill=colour)
    notch = left + (right - left) * flag.threshold
    pen.line((notch, middle - 10, notch, middle + 10), fill=_WHITE, width=2)
    _write(pen, (right + 66, middle), percent(flag.probability, phrases), 20, _WHITE, "rm", "Bold")
    threshold = f"{phrases.threshold} {percent(flag.threshold, phrases)}"
    _write(pen, (right + 84, middle), threshold, 16, _GREY, "lm")


def _footer(pen: ImageDraw.ImageDraw, height: int, phrases: Phrases, maker: str) -> None:
    top = height - _FOOTER
    pen.rectangle((0, top, WIDTH, height), fill=_BAND)
    pen.line((0, top, WIDTH, top), fill=_AMBER, width=2)
    _write(pen, (_MARGIN, top + 26), DISCLAIMER, 22, _AMBER, "lm", "Bold")
    if phrases.disclaimer != DISCLAIMER:
        _write(pen, (WIDTH - _MARGIN, top + 26), phrases.disclaimer, 18, _AMBER, "rm")
    _write(pen, (_MARGIN, top + 60), phrases.not_a_device, 16, _GREY, "lm")
    _write(pen, (WIDTH - _MARGIN, top + 60), maker, 14, _GREY, "rm")


def _write(
    pen: ImageDraw.ImageDraw,
    place: tuple[float, float],
    text: str,
    size: int,
    colour: _Colour,
    anchor: str,
    weight: Literal["Regular", "Medium", "Bold"] = "Regular",
) -> None:
    """Write a line, smaller where it would leave the canvas."""
    line = _composed(text)
    room = WIDTH - _MARGIN - place[0] if anchor[0] == "l" else place[0] - _MARGIN
    room *= 2 if anchor[0] == "m" else 1
    while size > 10 and pen.textlength(line, font=_font(size, weight)) > room:
        size -= 1
    pen.text(place, line, fill=colour, font=_font(size, weight), anchor=anchor)


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


@lru_cache(maxsize=64)
def _font(size: int, weight: str) -> ImageFont.FreeTypeFont:
    """Return Roboto (Apache-2.0), which has all letters of Vietnamese."""
    font = files("font_roboto") / "files" / f"Roboto-{weight}.ttf"
    # The basic layout is the same wherever Pillow is; composed letters need no shaping.
    return ImageFont.truetype(
        BytesIO(font.read_bytes()), size, layout_engine=ImageFont.Layout.BASIC
    )
