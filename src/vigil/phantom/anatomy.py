"""The anatomy of a phantom, as attenuation: soft tissue, air and bone. See :mod:`vigil.phantom`."""

import cv2
import numpy as np
from numpy.typing import NDArray

from vigil.phantom.canvas import Canvas, Layer, Points, ellipse, points, smooth


def draw_frontal(
    canvas: Canvas, *, large_heart: bool, effusion: bool, opacity: bool
) -> tuple[Layer, Layer, Layer]:
    """Return attenuation, lung mask and heart mask of a frontal picture."""
    random = canvas.random
    half = points(
        (0.19, -1.4), (0.20, -0.98), (0.42, -0.86), (0.85, -0.76), (1.5, -0.55), (1.5, -0.05),
        (1.06, -0.12), (0.95, 0.02), (0.90, 0.3), (0.91, 0.7), (1.0, 1.5),
    )  # fmt: skip
    mirrored = half[::-1] * np.array([-1, 1], np.float32)
    body = canvas.fill(smooth(np.concatenate((half, mirrored))), 0.006)
    attenuation = 0.62 * canvas.depth(body, 0.13) * body

    domes = {-1: 0.34 + random.normal(0, 0.03), 1: 0.40 + random.normal(0, 0.03)}
    thorax = {side: canvas.fill(_hemithorax(side, dome)) for side, dome in domes.items()}
    both = np.maximum(thorax[-1], thorax[1])
    air = canvas.depth(thorax[-1], 0.10) * thorax[-1] + canvas.depth(thorax[1], 0.10) * thorax[1]

    attenuation += 0.16 * _abdomen(canvas) * body * (1 - both)
    heart = canvas.fill(_heart_outline(random, large_heart), 0.012)
    mediastinum = np.maximum(heart, _great_vessels(canvas))
    air = air * (1 - 0.80 * mediastinum)
    lungs = both * (1 - mediastinum)

    clear = 0.47 + 0.02 * canvas.texture(random, 0.15)
    attenuation -= air * clear
    attenuation += 0.13 * mediastinum * canvas.depth(mediastinum, 0.12)
    attenuation += _vessels(canvas) * lungs + _bones(canvas, body) - _airways(canvas)
    # Breast and chest-wall tissue, and the scapulae's shade.
    for side in (-1, 1):
        tissue = canvas.fill(ellipse(side * 0.47, 0.18, 0.34, 0.26), 0.09)
        attenuation += random.uniform(0.0, 0.07) * tissue
        scapula = points((0.66, -0.62), (0.95, -0.60), (0.98, -0.35), (0.80, 0.02), (0.70, -0.2))
        attenuation += 0.06 * canvas.fill(smooth(scapula * np.array([side, 1])), 0.01) * body

    if effusion:
        attenuation += _fluid(canvas, thorax, domes)
    elif opacity:
        attenuation += _consolidation(canvas) * lungs
    attenuation += 0.012 * canvas.texture(random, 0.02) * body
    _mark_side(canvas, attenuation, "R")
    return attenuation, lungs, np.round(heart)


def _hemithorax(side: int, dome: float) -> Points:
    """Return one half of the chest's air space: apex, ribs' inner edge, angle, diaphragm."""
    outline = points(
        (0.30, -0.82), (0.47, -0.74), (0.62, -0.52), (0.71, -0.20), (0.77, 0.15), (0.80, 0.42),
        (0.815, dome + 0.30), (0.80, dome + 0.29), (0.70, dome + 0.10), (0.52, dome - 0.01),
        (0.34, dome - 0.02), (0.16, dome + 0.09), (0.06, dome + 0.14), (0.07, 0.1), (0.06, -0.3),
        (0.09, -0.60), (0.16, -0.76),
    )  # fmt: skip
    return smooth(outline) * np.array([side, 1], np.float32)


def _heart_outline(random: np.random.Generator, large: bool) -> Points:
    """Return the heart, two thirds of it left of the midline; if large, beyond half the chest."""
    spread = random.uniform(0.92, 1.06)
    factor = (1.40 if large else 0.98) * spread
    right, left = -0.23 * factor, 0.52 * factor
    base = 0.50 if not large else 0.56
    outline = points(
        (-0.10, -0.20), (right * 0.85, -0.05), (right, 0.15), (right * 0.92, 0.36), (-0.05, base),
        (left * 0.6, base + 0.03), (left * 0.97, base - 0.06), (left, 0.30), (left * 0.80, 0.08),
        (left * 0.50, -0.10), (0.15, -0.25), (0.05, -0.28),
    )  # fmt: skip
    return smooth(outline)


def _great_vessels(canvas: Canvas) -> Layer:
    """Return the upper mediastinum with the aortic knob, and the hila."""
    band = points(
        (-0.12, -0.95), (-0.13, -0.6), (-0.14, -0.3), (-0.12, 0.5), (0.10, 0.5), (0.15, -0.2),
        (0.14, -0.45), (0.11, -0.7), (0.12, -0.95),
    )  # fmt: skip
    knob = canvas.fill(ellipse(0.13, -0.36, 0.085, 0.095), 0.012)
    hila = canvas.layer()
    for side, y in ((-1, -0.06), (1, -0.12)):
        hila += 0.45 * canvas.fill(ellipse(side * 0.20, y, 0.075, 0.14, side * 20), 0.035)
    spread = np.maximum(canvas.fill(smooth(band), 0.02), knob)
    return np.clip(np.maximum(spread, hila), 0, 1)


def _abdomen(canvas: Canvas) -> Layer:
    """Return what lies below the diaphragm: bright, with the stomach's bubble on the left."""
    below = canvas.fill(points((-1.5, 0.2), (1.5, 0.2), (1.5, 1.6), (-1.5, 1.6)), 0.08)
    bubble = ellipse(0.40, 0.66, canvas.random.uniform(0.08, 0.17), 0.075)
    return below * (1 - 1.3 * canvas.fill(bubble, 0.025))


def _airways(canvas: Canvas) -> Layer:
    """Return the trachea's and the main bronchi's air."""
    layer = canvas.layer()
    carina = (0.0, -0.27)
    canvas.stroke(layer, smooth(points((0.01, -1.3), (0.0, -0.7), carina), False), 0.085)
    for side, reach in ((-1, 0.16), (1, 0.21)):
        canvas.stroke(layer, points(carina, (side * reach, -0.27 + 0.17)), 0.05, 0.6)
    return 0.17 * canvas.blur(layer, 0.014)


def _vessels(canvas: Canvas) -> Layer:
    """Return the lungs' vessels, which branch from the hila and thin out to the edge."""
    random, layer = canvas.random, canvas.layer()

    def grow(at: NDArray[np.float64], angle: float, width: float, length: float) -> None:
        bend = angle + random.normal(0, 0.15)
        middle = at + 0.5 * length * np.array([np.cos(angle), np.sin(angle)])
        end = middle + 0.5 * length * np.array([np.cos(bend), np.sin(bend)])
        canvas.stroke(layer, np.array((at, middle, end), np.float32), width, min(1.0, width * 45))
        if width > 0.008:
            for turn in (-1, 1):
                grow(end, bend + turn * random.uniform(0.15, 0.6), width * 0.66, length * 0.76)

    for side, y in ((-1, -0.06), (1, -0.12)):
        for angle in np.deg2rad((-72, -45, -15, 12, 38, 62)):
            tilt = angle + random.normal(0, 0.08)
            start = np.array([side * 0.18, y])
            grow(start, tilt if side > 0 else np.pi - tilt, 0.026, 0.20)
    return 0.085 * canvas.blur(layer, 0.006)


def _bones(canvas: Canvas, body: Layer) -> Layer:
    """Return ribs, clavicles and spine."""
    random = canvas.random
    ribs, spine = canvas.layer(), canvas.layer()
    for number in range(10):
        y = -0.72 + 0.128 * number
        reach = 0.30 + 0.54 * min(1.0, (number + 0.6) / 4)
        for side in (-1, 1):
            slip = random.normal(0, 0.006)
            posterior = points(
                (0.08, y), (0.25, y - 0.055), (0.6 * reach, y - 0.02), (0.92 * reach, y + 0.11),
                (reach, y + 0.26),
            )  # fmt: skip
            anterior = points(
                (reach, y + 0.26), (0.90 * reach, y + 0.40), (0.70 * reach, y + 0.50),
                (0.5 * reach, y + 0.54),
            )  # fmt: skip
            shift = np.array([0, slip], np.float32)
            for line, strength in ((posterior, 1.0), (anterior, 0.55)):
                if line is anterior and number > 5:
                    continue
                placed = (smooth(line, False) + shift) * np.array([side, 1], np.float32)
                one = canvas.layer()
                canvas.stroke(one, placed, 0.056, strength)
                # The cortex is denser than the marrow.
                canvas.stroke(one, placed, 0.034, 0.6 * strength)
                ribs = np.maximum(ribs, one)
    clavicles = canvas.layer()
    for side in (-1, 1):
        rise = random.normal(0, 0.015)
        line = points((0.09, -0.60), (0.25, -0.64), (0.5, -0.72 + rise), (0.95, -0.76 + rise))
        placed = smooth(line, False) * np.array([side, 1], np.float32)
        canvas.stroke(clavicles, placed, 0.065)
        canvas.stroke(clavicles, placed, 0.035, 0.65)
    for number in range(16):
        y = -1.05 + 0.13 * number
        canvas.stroke(spine, points((0, y), (0, y + 0.075)), 0.13, 0.8)
        canvas.stroke(spine, points((-0.13, y + 0.02), (0.13, y + 0.02)), 0.03, 1.0)
    bones: Layer = 0.085 * canvas.blur(ribs, 0.004) + 0.11 * canvas.blur(clavicles, 0.005)
    bones += 0.055 * canvas.blur(spine, 0.012)
    return bones * body


def _fluid(canvas: Canvas, thorax: dict[int, Layer], domes: dict[int, float]) -> Layer:
    """Return an effusion: no costophrenic angle, and a level that climbs along the chest wall."""
    side = int(canvas.lesion.choice((-1, 1)))
    level = domes[side] - canvas.lesion.uniform(0.06, 0.34)
    surface = points(
        (0.0, level + 0.10), (0.30, level + 0.08), (0.55, level + 0.01), (0.72, level - 0.12),
        (0.86, level - 0.34), (0.95, level - 0.34), (0.95, 1.2), (0.0, 1.2),
    )  # fmt: skip
    fluid = canvas.fill(smooth(surface) * np.array([side, 1], np.float32), 0.02)
    return 0.46 * fluid * canvas.depth(thorax[side], 0.10) * thorax[side]


def _consolidation(canvas: Canvas) -> Layer:
    """Return a patch of consolidated lung, uneven and without a sharp edge."""
    random = canvas.lesion
    side = random.choice((-1, 1))
    x, y = side * random.uniform(0.38, 0.58), random.uniform(-0.45, 0.15)
    patch = canvas.layer()
    for _ in range(7):
        dx, dy = random.normal(0, 0.07, 2)
        radius = random.uniform(0.07, 0.13)
        patch += canvas.fill(
            ellipse(x + dx, y + dy, radius, radius * random.uniform(0.7, 1.1)), 0.03
        )
    mottled = 1 + 0.22 * canvas.texture(random, 0.018)
    return random.uniform(0.20, 0.30) * (1 - np.exp(-patch)) * mottled


_LETTERS = {
    "L": ((0, 0), (0, 1), (0.6, 1)),
    "R": (
        (0, 1),
        (0, 0),
        (0.5, 0.05),
        (0.6, 0.25),
        (0.5, 0.48),
        (0, 0.52),
        (0.25, 0.52),
        (0.65, 1),
    ),
}


def _mark_side(canvas: Canvas, attenuation: Layer, letter: str) -> None:
    """Lay the technician's lead letter on the film's upper left corner."""
    height = 0.055 * canvas.rows
    corner = np.array([0.05 * canvas.columns, 0.05 * canvas.rows])
    strokes = np.rint((np.array(_LETTERS[letter]) * height + corner) * 16).astype(np.int32)
    width = max(1, round(0.010 * canvas.rows))
    cv2.polylines(attenuation, [strokes], False, 1.1, width, cv2.LINE_AA, 4)


def draw_lateral(canvas: Canvas) -> tuple[Layer, Layer, Layer]:
    """Return attenuation of a lateral picture, and two empty masks."""
    random = canvas.random
    trunk = points(
        (-0.30, -1.4), (-0.42, -0.75), (-0.62, -0.45), (-0.70, 0.1), (-0.66, 0.8), (-0.7, 1.5),
        (0.72, 1.5), (0.70, 0.5), (0.66, -0.2), (0.52, -0.75), (0.30, -0.95), (0.28, -1.4),
    )  # fmt: skip
    body = canvas.fill(smooth(trunk), 0.006)
    chest = canvas.fill(smooth(points(
        (0.05, -0.80), (-0.30, -0.55), (-0.50, -0.1), (-0.53, 0.25), (-0.50, 0.36), (-0.2, 0.28),
        (0.15, 0.30), (0.45, 0.62), (0.55, 0.60), (0.58, 0.1), (0.52, -0.4), (0.33, -0.75),
    )), 0.006)  # fmt: skip
    heart = canvas.fill(ellipse(-0.24, 0.12, 0.25, 0.24, -30), 0.03)
    attenuation = 0.70 * canvas.depth(body, 0.16) * body
    attenuation += 0.15 * _abdomen(canvas) * body * (1 - chest)
    attenuation -= 0.45 * canvas.depth(chest, 0.12) * chest * (1 - 0.65 * heart)
    arch = canvas.layer()
    bow = points((-0.05, -0.1), (-0.05, -0.38), (0.14, -0.46), (0.30, -0.30), (0.34, 0.5))
    canvas.stroke(arch, smooth(bow, False), 0.12)
    bones = canvas.layer()
    for number in range(16):
        y = -1.0 + 0.14 * number
        bow_x = 0.40 + 0.10 * float(np.sin(1.3 * y + 0.6))
        canvas.stroke(bones, points((bow_x, y), (bow_x, y + 0.08)), 0.17, 0.9)
    for number in range(9):
        y = -0.75 + 0.14 * number + random.normal(0, 0.008)
        rib = points((0.52, y), (0.25, y + 0.16), (-0.15, y + 0.38), (-0.5, y + 0.50))
        canvas.stroke(bones, smooth(rib, False), 0.045, 0.55)
    canvas.stroke(bones, smooth(points((-0.38, -0.6), (-0.58, -0.2), (-0.6, 0.2)), False), 0.05)
    shoulder = canvas.fill(ellipse(0.12, -0.85, 0.30, 0.24), 0.05)
    windpipe = canvas.layer()
    canvas.stroke(windpipe, points((-0.08, -1.2), (0.06, -0.25)), 0.085)
    attenuation += 0.05 * canvas.blur(arch, 0.03) + 0.10 * canvas.blur(bones, 0.008) * body
    attenuation += 0.12 * shoulder * body - 0.09 * canvas.blur(windpipe, 0.014)
    attenuation += 0.012 * canvas.texture(random, 0.02) * body
    _mark_side(canvas, attenuation, "L")
    return attenuation, canvas.layer(), canvas.layer()
