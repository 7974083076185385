"""Drawings of two bundles' scores, as SVG without style sheets or scripts."""

from collections.abc import Iterator, Sequence

_SIDE, _LEFT, _TOP, _RIGHT, _BOTTOM = 300, 46, 10, 10, 42
_WIDTH, _HEIGHT = _LEFT + _SIDE + _RIGHT, _TOP + _SIDE + _BOTTOM
_LINE, _DOT, _MARK = "currentColor", "#0f6cbd", "#c4501b"


def scatter(points: Sequence[tuple[float, float]], thresholds: tuple[float, float]) -> str:
    """Return both bundles' scores, a dot a picture, with both thresholds."""
    across, up = _x(thresholds[0]), _y(thresholds[1])
    marks = [
        f'<line x1="{across:.1f}" x2="{across:.1f}" y1="{_y(0)}" y2="{_y(1)}" stroke="{_MARK}" '
        'stroke-dasharray="4 3"/>',
        f'<line x1="{_x(0)}" x2="{_x(1)}" y1="{up:.1f}" y2="{up:.1f}" stroke="{_MARK}" '
        'stroke-dasharray="4 3"/>',
    ]
    dots = [
        f'<circle cx="{_x(one):.1f}" cy="{_y(other):.1f}" r="2.5" fill="{_DOT}" '
        'fill-opacity=".45"/>'
        for one, other in points
    ]
    return _drawing([*marks, *dots], "scores of the two bundles, picture by picture")


def quantile_plot(quantiles: Sequence[tuple[float, float, float]]) -> str:
    """Return the candidate's quantiles against the reference's."""
    path = " ".join(f"{_x(one):.1f},{_y(other):.1f}" for _, one, other in quantiles)
    line = f'<polyline points="{path}" fill="none" stroke="{_DOT}" stroke-width="2"/>'
    dots = [
        f'<circle cx="{_x(one):.1f}" cy="{_y(other):.1f}" r="3" fill="{_DOT}">'
        f"<title>{level:.0%}: {one:.3f}, {other:.3f}</title></circle>"
        for level, one, other in quantiles
    ]
    return _drawing([line, *dots], "quantiles of the two bundles' scores")


def _drawing(content: Sequence[str], what: str) -> str:
    return "".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
            f'width="{_WIDTH}" height="{_HEIGHT}" role="img" aria-label="{what}" '
            'font-family="system-ui, sans-serif" font-size="12">',
            *_axes(),
            *content,
            "</svg>",
        ]
    )


def _axes() -> Iterator[str]:
    yield (
        f'<rect x="{_x(0)}" y="{_y(1)}" width="{_SIDE}" height="{_SIDE}" fill="none" '
        f'stroke="{_LINE}" stroke-opacity=".4"/>'
    )
    yield (
        f'<line x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}" stroke="{_LINE}" '
        'stroke-opacity=".25"/>'
    )
    for tick in (0.0, 0.5, 1.0):
        yield (
            f'<text x="{_x(tick)}" y="{_y(0) + 16}" text-anchor="middle" fill="{_LINE}">'
            f"{tick:g}</text>"
        )
        yield (
            f'<text x="{_x(0) - 6}" y="{_y(tick) + 4}" text-anchor="end" fill="{_LINE}">'
            f"{tick:g}</text>"
        )
    middle = _x(0.5)
    yield (
        f'<text x="{middle}" y="{_HEIGHT - 6}" text-anchor="middle" fill="{_LINE}">reference</text>'
    )
    yield (
        f'<text transform="translate(13 {_y(0.5)}) rotate(-90)" text-anchor="middle" '
        f'fill="{_LINE}">candidate</text>'
    )


def _x(score: float) -> float:
    return _LEFT + _SIDE * score


def _y(score: float) -> float:
    return _TOP + _SIDE * (1 - score)
