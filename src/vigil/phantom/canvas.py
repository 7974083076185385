"""What phantoms are drawn on: body coordinates, placed as one person stands, into float layers."""

import cv2
import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float32]
"""(n, 2): x to the patient's left, y downwards; a square picture reaches from -1 to 1."""
Layer = NDArray[np.float32]
"""(rows, columns) of the working size."""

WORKING_SIDES = (320, 640)
"""Anatomy is drawn at one of these and resampled; only the grain is drawn at full size."""


class Canvas:
    """Draws body coordinates into float layers of the working size, as one person stands.

    Attributes
    ----------
    random, lesion
        What draws the person, and what draws a kind's own lesion, so that the person stays.
    unit
        Working pixels per body unit.
    """

    def __init__(self, seed: int, size: tuple[int, int]) -> None:
        self.random = np.random.default_rng([seed, 0])
        self.lesion = np.random.default_rng([seed, 1])
        side = WORKING_SIDES[0] if max(size) <= WORKING_SIDES[0] else WORKING_SIDES[1]
        scale = side / max(size)
        self.rows, self.columns = (max(8, round(length * scale)) for length in size)
        self.unit = 0.5 * float(np.sqrt(self.rows * self.columns))
        tilt = np.deg2rad(self.random.normal(0, 1.2))
        width, height = self.random.uniform(0.93, 1.04), self.random.uniform(0.93, 1.03)
        self._shape = np.array([width, height]) * self.unit
        self._turn = np.array([[np.cos(tilt), np.sin(tilt)], [-np.sin(tilt), np.cos(tilt)]])
        self._centre = np.array([self.columns, self.rows]) / 2
        self._centre = self._centre + self.random.normal(0, 0.02, 2) * self.unit

    def to_pixels(self, points: Points) -> NDArray[np.int32]:
        """Return points as working pixels in 1/16, which is what cv2 draws with shift 4."""
        placed = (points * self._shape) @ self._turn + self._centre
        fixed_point: NDArray[np.int32] = np.rint(placed * 16).astype(np.int32)
        return fixed_point

    def layer(self) -> Layer:
        """Return an empty layer."""
        return np.zeros((self.rows, self.columns), np.float32)

    def fill(self, outline: Points, blur: float = 0.004) -> Layer:
        """Return a layer that is 1 inside a closed outline."""
        layer = self.layer()
        cv2.fillPoly(layer, [self.to_pixels(outline)], 1.0, cv2.LINE_AA, 4)
        return self.blur(layer, blur)

    def stroke(self, layer: Layer, line: Points, width: float, value: float = 1.0) -> None:
        """Draw an open line of a width in body units into a layer."""
        thickness = max(1, round(width * self.unit))
        cv2.polylines(layer, [self.to_pixels(line)], False, value, thickness, cv2.LINE_AA, 4)

    def blur(self, layer: Layer, sigma: float) -> Layer:
        """Return a layer blurred by body units."""
        pixels = max(0.4, sigma * self.unit)
        coarse = max(1, int(pixels // 4))
        # A wide blur of a reduced copy looks the same and costs a fraction.
        size = (max(2, self.columns // coarse), max(2, self.rows // coarse))
        reduced = cv2.resize(layer, size, interpolation=cv2.INTER_AREA) if coarse > 1 else layer
        blurred: Layer = cv2.GaussianBlur(reduced, (0, 0), pixels / coarse).astype(np.float32)
        return cv2.resize(blurred, (self.columns, self.rows)) if coarse > 1 else blurred

    def depth(self, mask: Layer, scale: float) -> Layer:
        """Return how thick a rounded body with this silhouette is, 0 at its edge to 1."""
        distance = cv2.distanceTransform((mask > 0.5).astype(np.uint8), cv2.DIST_L2, 5)
        depth: Layer = (1 - np.exp(-distance / (scale * self.unit))).astype(np.float32)
        return self.blur(depth, 0.012)

    def texture(self, generator: np.random.Generator, sigma: float) -> Layer:
        """Return smooth noise of standard deviation 1."""
        noise = generator.standard_normal((self.rows, self.columns)).astype(np.float32)
        smooth = self.blur(noise, sigma)
        return smooth / max(float(smooth.std()), 1e-6)


def points(*pairs: tuple[float, float]) -> Points:
    """Return pairs of coordinates as an array."""
    return np.array(pairs, np.float32)


def smooth(line: Points, closed: bool = True) -> Points:
    """Round a polygon's corners by Chaikin's corner cutting."""
    for _ in range(4):
        following = np.roll(line, -1, axis=0) if closed else line[1:]
        first = line if closed else line[:-1]
        cut = np.stack((0.75 * first + 0.25 * following, 0.25 * first + 0.75 * following), axis=1)
        cut = cut.reshape(-1, 2)
        line = cut if closed else np.concatenate((line[:1], cut, line[-1:]))
    return line.astype(np.float32)


def ellipse(x: float, y: float, width: float, height: float, degrees: float = 0) -> Points:
    """Return an ellipse's outline; ``width`` and ``height`` are half axes."""
    angle, turn = np.linspace(0, 2 * np.pi, 72, endpoint=False), np.deg2rad(degrees)
    across, down = width * np.cos(angle), height * np.sin(angle)
    turned_x = across * np.cos(turn) - down * np.sin(turn)
    turned_y = across * np.sin(turn) + down * np.cos(turn)
    return np.stack((x + turned_x, y + turned_y), axis=1).astype(np.float32)
