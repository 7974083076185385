import dataclasses
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from vigil.preprocess import PreprocessingSpec, letterbox_of
from vigil.radiograph import ImageDescription, Radiograph, Sampling
from vigil_training.manifest import ManifestRow
from vigil_training.outlines import dice, outline_agreement, outline_figures, ratio_figures


def _row(number: int, source: str = "a", **known: object) -> ManifestRow:
    plain = ManifestRow(
        number=number, path=Path("x.png"), source=source, patient_id=f"p{number}",
        image_id=str(number), view="PA", age_years=None, sex="", labels=frozenset(),
        label_scope=frozenset(),
    )  # fmt: skip
    return dataclasses.replace(plain, **known)


def test_dices_coefficient_is_twice_the_overlap_over_both_areas() -> None:
    one, other = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    one[:2], other[1:] = True, True
    assert dice(one, other) == pytest.approx(2 * 4 / (8 + 12))
    assert dice(one, one) == 1
    assert dice(one, ~one) == 0
    assert dice(one & False, one & False) == 1


def test_an_outline_is_compared_in_the_picture_not_in_the_networks_square(tmp_path: Path) -> None:
    rows, columns, size = 300, 600, 64
    mask = np.zeros((rows, columns), np.uint8)
    mask[60:240, 120:300] = 255
    cv2.imwrite(str(tmp_path / "lungs.png"), mask)
    box = letterbox_of(rows, columns, size)
    square = np.ones((size, size), np.float32)  # what lies in the filling must not count
    inside = cv2.resize(mask, (box.width, box.height), interpolation=cv2.INTER_AREA) / 255
    square[box.top : box.top + box.height, box.left : box.left + box.width] = inside
    triager = SimpleNamespace(
        bundle=SimpleNamespace(preprocessing=PreprocessingSpec(size=size)),
        predict=lambda pixels, shape: SimpleNamespace(
            structures={"lungs": square, "heart": square}
        ),
    )
    # Read at half its size: the outline lies in the whole picture all the same.
    radiograph = Radiograph(
        pixels=np.zeros((rows // 2, columns // 2), np.uint16),
        description=ImageDescription(file_format="dicom", rows=rows, columns=columns),
        sampling=Sampling(rows=rows, columns=columns, step=2),
    )
    row = _row(1, mask=tmp_path / "lungs.png")
    found = outline_agreement(triager, radiograph, row)
    assert set(found) == {"lungs"}  # nobody drew a heart
    assert found["lungs"] > 0.97
    triager.predict = lambda pixels, shape: SimpleNamespace(structures={"lungs": square[:, ::-1]})
    assert outline_agreement(triager, radiograph, row)["lungs"] < 0.5
    triager.predict = lambda pixels, shape: SimpleNamespace(structures={})
    assert outline_agreement(triager, radiograph, row) == {}


def test_agreement_is_told_per_source_and_structure() -> None:
    found = [
        (_row(i), {"lungs": 0.9 + i / 1000, "heart": 0.5} if i else {"lungs": 0.1})
        for i in range(11)
    ]
    found.append((_row(99, "b"), {"lungs": 0.7}))
    by_key = {(f.source, f.structure): f for f in outline_figures(found, samples=50)}
    lungs = by_key["a", "lungs"]
    assert lungs.pictures == 11
    assert lungs.mean == pytest.approx(np.mean([0.1] + [0.9 + i / 1000 for i in range(1, 11)]))
    assert lungs.median == pytest.approx(0.905)
    assert lungs.lowest_tenth == pytest.approx(0.901)
    assert lungs.interval is not None
    assert lungs.interval[0] < lungs.mean < lungs.interval[1]
    assert by_key["a", "heart"].pictures == 10
    assert by_key["b", "lungs"].mean == pytest.approx(0.7)


def test_the_ratio_is_compared_with_a_persons_and_with_the_label() -> None:
    scope, ill = frozenset({"Cardiomegaly"}), frozenset({"Cardiomegaly"})
    found = [
        (_row(1, cardiothoracic_ratio=0.50, label_scope=scope), 0.48, None),
        (_row(2, cardiothoracic_ratio=0.60, label_scope=scope, labels=ill), 0.64, None),
        (_row(3, cardiothoracic_ratio=0.55), None, "CUT_OFF"),
        (_row(4, label_scope=scope, labels=ill), 0.44, None),
        (_row(5, "b"), 0.44, None),  # nothing is known of this heart
        (_row(6, "c", label_scope=scope), None, None),  # refused
    ]
    (figures,) = ratio_figures(found, samples=50)
    assert (figures.source, figures.measured, figures.known) == ("a", 3, 2)
    assert figures.not_measured == {"CUT_OFF": 1}
    assert figures.mean_absolute_error == pytest.approx(0.03)
    assert figures.mean_error == pytest.approx(0.01)
    assert (figures.judged, figures.positives) == (3, 2)
    assert figures.auroc == pytest.approx(0.5)  # 0.64 lies over 0.48, 0.44 does not
