"""Examples drawn from phantoms: for tests and for a first run without any data.

Nothing learnt from phantoms says anything about patients.
"""

import numpy as np

from vigil.findings import CONCEPTS
from vigil.phantom import PhantomKind, make_phantom
from vigil_training.config import ATTRIBUTES, RunConfig
from vigil_training.split import side_of
from vigil_training.targets import GATE_SOURCE, Example

SOURCE = "phantom"
_KINDS = (
    PhantomKind.NORMAL,
    PhantomKind.EFFUSION,
    PhantomKind.CARDIOMEGALY,
    PhantomKind.OPACITY,
    PhantomKind.LATERAL,
)
_SIDE_PIXELS = 128


def generated_examples(config: RunConfig) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Return training and validation examples; each phantom is a person of its own.

    A finding is known on all frontal phantoms if phantoms can show its label and it is for
    adults; lateral ones take the place of pictures that are no frontal chest film.
    """
    shown = {"Effusion", "Cardiomegaly", "Consolidation"} & set(CONCEPTS)
    sides: dict[str, list[Example]] = {"train": [], "val": []}
    for number in range(config.data.phantoms):
        kind = _KINDS[number % len(_KINDS)]
        phantom = make_phantom(
            config.data.split_seed * 1_000_003 + number, kind, (_SIDE_PIXELS,) * 2
        )
        chest = kind is not PhantomKind.LATERAL
        known = [
            (float(finding.label in phantom.labels), float(chest and finding.label in shown))
            for finding in config.findings
        ]
        known += [
            (float(chest and name == "frontal_chest"), float(chest or name == "frontal_chest"))
            for name in ATTRIBUTES
        ]
        array = np.asarray(known, np.float32)
        source = SOURCE if chest else GATE_SOURCE
        # 12 stored bits to the 16 of a display value, as a window over the whole range would.
        pixels = (phantom.pixels << 4).astype(np.uint16)
        side = side_of(source, str(number), config.data.split_seed, config.data.validation_fraction)
        sides[side].append(
            Example(
                None,
                source,
                f"{source}/{number}",
                chest,
                array[:, 0],
                array[:, 1],
                pixels,
                (phantom.lung_mask, phantom.heart_mask) if chest else (None, None),
            )
        )
    return tuple(sides["train"]), tuple(sides["val"])
