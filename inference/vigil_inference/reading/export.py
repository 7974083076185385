"""Signed readings as a manifest that training reads, under new names, with pictures if wanted.

One row a picture. A label is in ``label_scope`` where a reader spoke of it or signed the rest of
the list as absent; where two readers differ it is ``uncertain`` and in no scope.
"""

import csv
import io
import json
import re
import unicodedata
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from pydicom.errors import InvalidDicomError
from sqlalchemy import select
from sqlalchemy.orm import Session

import vigil
from vigil.findings import CONCEPTS
from vigil_inference.pictures import PictureStore, encode_png
from vigil_inference.reading.deidentified import bounded_age, deidentify
from vigil_inference.reading.observations import Observation, SignedReading, signed_readings
from vigil_inference.reading.pictures import Pictures
from vigil_inference.reading.pseudonyms import Pseudonyms, pseudonyms_of
from vigil_inference.reading.statements import Region
from vigil_inference.records import AnalysisRecord
from vigil_inference.store import Store
from vigil_inference.tables import Instance, Study

COLUMNS = (
    "path", "source", "patient_id", "image_id", "view", "age", "sex", "labels", "label_scope",
    "boxes", "split", "uncertain", "other_findings", "readers", "bundles",
)  # fmt: skip
_VIEWS = frozenset({"PA", "AP", "FRONTAL", "LATERAL"})
_TURN = re.compile(r"the picture was turned (180°|90° clockwise|90° anticlockwise)")


@dataclass(frozen=True)
class ExportFile:
    """A file of an export."""

    name: str
    content: bytes


@dataclass
class Exported:
    """What an export holds, and what it left out and why."""

    pictures: int = 0
    patients: int = 0
    left_out: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class _Film:
    """A picture with all that readers said of it."""

    study: Study
    instance: Instance
    words: tuple[Observation, ...]

    @property
    def record(self) -> AnalysisRecord | None:
        return (
            None
            if self.instance.result is None
            else AnalysisRecord.model_validate(self.instance.result)
        )


class Export:
    """Yields the files of an export.

    Parameters
    ----------
    store, data_dir
        Where readings and pictures are.
    source
        What the manifest calls this site, so that two hospitals are kept apart.
    pictures
        Which pictures go with it.

    Attributes
    ----------
    exported
        What was yielded; complete when the last file was.
    """

    def __init__(self, store: Store, data_dir: Path, *, source: str, pictures: Pictures) -> None:
        self._store = store
        self._data_dir = data_dir
        self._source = source
        self._pictures = pictures
        self._names: Pseudonyms = pseudonyms_of(store)
        self.exported = Exported()

    def files(self) -> Iterator[ExportFile]:
        """Yield the pictures, then the manifest, then what there is to know of it."""
        table = io.StringIO(newline="")
        writer = csv.DictWriter(table, COLUMNS)
        writer.writeheader()
        patients = set()
        for film in self._films():
            row = self._row(film)
            if row is None:
                continue
            if self._pictures is not Pictures.NONE:
                content = self._content(film, row["patient_id"])
                if content is None:
                    continue
                yield ExportFile(row["path"], content)
            writer.writerow(row)
            self.exported.pictures += 1
            patients.add(row["patient_id"])
        self.exported.patients = len(patients)
        yield ExportFile("manifest.csv", table.getvalue().encode())
        yield ExportFile("README.md", self._readme().encode())

    def _films(self) -> Iterator[_Film]:
        with self._store.reading() as session:
            for readings in signed_readings(session):
                yield from self._films_of(session, readings)

    def _films_of(self, session: Session, readings: list[SignedReading]) -> Iterator[_Film]:
        words: dict[str, list[Observation]] = defaultdict(list)
        for reading in readings:
            for word in reading.observations:
                words[word.sop_instance_uid].append(word)
        study = session.scalars(select(Study).where(Study.id == readings[0].study_id)).one()
        if study.identity_conflict:
            self.exported.left_out["the study's pictures name several patients"] += len(words)
            return
        rows = session.scalars(
            select(Instance)
            .where(Instance.study_id == study.id, Instance.sop_instance_uid.in_(words))
            .order_by(Instance.id)
        ).all()
        for instance in rows:
            yield _Film(study, instance, tuple(words[instance.sop_instance_uid]))

    def _row(self, film: _Film) -> dict[str, str] | None:
        positive, known, uncertain = _labels(film.words)
        if not known and not uncertain:
            self.exported.left_out["no reader spoke of a label of the manifest"] += 1
            return None
        study, instance, record = film.study, film.instance, film.record
        image = self._names.picture(instance.sop_instance_uid)
        suffix = "png" if self._pictures is Pictures.PNG else "dcm"
        view = record.view if record is not None else ""
        age = record.age_years if record is not None else None
        return {
            "path": f"pictures/{image}.{suffix}",
            "source": self._source,
            "patient_id": self._names.patient(
                study.issuer_of_patient_id, study.patient_id, study.study_instance_uid
            ),
            "image_id": image,
            "view": view if view in _VIEWS else "UNKNOWN",
            "age": "" if age is None else f"{bounded_age(age):g}",
            "sex": study.patient_sex if study.patient_sex in ("F", "M", "O") else "",
            "labels": _joined(positive),
            "label_scope": _joined(known),
            "boxes": json.dumps(self._boxes(film, positive)),
            "split": "",
            "uncertain": _joined(uncertain),
            "other_findings": _joined(
                {w.label for w in film.words if w.is_present and w.label not in CONCEPTS}
            ),
            "readers": str(len({word.reader for word in film.words})),
            "bundles": _joined(
                {w.model.bundle_digest for w in film.words if w.model.bundle_digest}
            ),
        }

    def _boxes(self, film: _Film, positive: set[str]) -> list[dict[str, object]]:
        """Return the regions of whoever drew first, where the exported file has them."""
        turn = self._turn(film)
        boxes = []
        for label in sorted(positive):
            drawn = (word.regions for word in film.words if word.label == label and word.regions)
            for region in next(drawn, ()):
                box = _in_the_file(region, turn)
                boxes.append(
                    {
                        "label": label,
                        "x": round(box.x, 5),
                        "y": round(box.y, 5),
                        "w": round(box.width, 5),
                        "h": round(box.height, 5),
                    }
                )
        return boxes

    def _turn(self, film: _Film) -> str:
        """Return how the picture was turned before it was analysed; a preview is turned already."""
        if self._pictures is Pictures.PNG or film.record is None:
            return ""
        turns = (_TURN.search(note) for note in film.record.notes)
        return next((found.group(1) for found in turns if found), "")

    def _content(self, film: _Film, patient: str) -> bytes | None:
        instance = film.instance
        if self._pictures is Pictures.PNG:
            preview = PictureStore(self._data_dir).load_preview(instance.sha256)
            if preview is None:
                self.exported.left_out["there is no preview of the picture"] += 1
                return None
            return encode_png(preview)
        if instance.removed_at is not None:
            self.exported.left_out["the original's pixels were removed by rule"] += 1
            return None
        age = film.record.age_years if film.record is not None else None
        try:
            return deidentify(self._data_dir / instance.file_path, self._names, patient, age)
        except (OSError, InvalidDicomError, AttributeError, ValueError):
            self.exported.left_out["the original cannot be read"] += 1
            return None

    def _readme(self) -> str:
        done = self.exported
        left = [f"- left out: {n}, {why}" for why, n in sorted(done.left_out.items())]
        return _README.format(
            notice=vigil.RESEARCH_USE,
            version=vigil.__version__,
            pictures=done.pictures,
            patients=done.patients,
            left="\n".join(left) or "- nothing was left out",
            files=_FILES[self._pictures],
        )


def source_of(site: str) -> str:
    """Return what a manifest calls a site: its name in letters that every program takes."""
    plain = unicodedata.normalize("NFKD", site.replace("đ", "d").replace("Đ", "D"))
    return (
        re.sub(r"[^a-z0-9]+", "-", plain.encode("ascii", "ignore").decode().lower()).strip("-")
        or "reading-room"
    )


def zipped(files: Iterable[ExportFile], to: IO[bytes]) -> None:
    """Write files into a ZIP file; pictures are compressed already or do not get smaller."""
    with zipfile.ZipFile(to, "w", zipfile.ZIP_STORED) as archive:
        for file in files:
            archive.writestr(file.name, file.content)


def _labels(words: Iterable[Observation]) -> tuple[set[str], set[str], set[str]]:
    """Return the manifest's labels that are there, that are known, and that readers dispute."""
    said: dict[str, set[bool]] = defaultdict(set)
    for word in words:
        if word.label in CONCEPTS:
            said[word.label].add(word.is_present)
    known = {label for label, answers in said.items() if len(answers) == 1}
    return {label for label in known if True in said[label]}, known, said.keys() - known


def _joined(labels: Iterable[str]) -> str:
    return "|".join(sorted(labels))


def _in_the_file(box: Region, turn: str) -> Region:
    """Return a region of the picture as analysed where the file has it, before it was turned."""
    x, y, width, height = box.x, box.y, box.width, box.height
    if turn == "90° clockwise":
        return Region(y, 1 - x - width, height, width)
    if turn == "180°":
        return Region(1 - x - width, 1 - y - height, width, height)
    if turn == "90° anticlockwise":
        return Region(1 - y - height, x, height, width)
    return box


_FILES = {
    Pictures.NONE: "No pictures were asked for: `path` says where each would lie. `--pictures "
    "dicom` or `--pictures png` brings them.",
    Pictures.DICOM: "DICOM files with the original's pixels and a short list of attributes. What "
    "is burnt into the pixels (names, on some scanned films) is still there: look before you pass "
    "them on.",
    Pictures.PNG: "8-bit previews as they were analysed: upright, bone bright. What is burnt into "
    "the pixels is still there.",
}
_README = """# Signed readings

{notice}. Written by Vigil {version}.

- {pictures} pictures of {patients} patients
{left}

`vigil data import reading-room FOLDER --to manifest.csv` reads it, `vigil data check` looks for
leaks, and `vigil train` takes it as it is.

- **Pseudonymous, not anonymous.** Patients and pictures carry new names made with a key that
  stays in the installation; a later export names them the same. Ages from 90 on are 90. Readers'
  names and notes are not in it.
- `label_scope` holds what a reader spoke of, or signed as absent with the rest of the list. What
  nobody spoke of is unknown, never negative. Where two readers differ, the label is `uncertain`.
- `other_findings` are words that the training manifest does not know; its readers pass them over.
- `bundles` names the model whose answer the readers had before them: they did not read blind, and
  a model trained on these labels learns some of its predecessor's errors.
- {files}
"""
