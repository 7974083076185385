"""Miniature trees in the layouts in which the sets are published; the tests read them."""

import csv
import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from vigil.phantom import make_phantom
from vigil.phantom.dicom import write_dx


def png(path: Path, seed: int = 0, size: tuple[int, int] = (64, 64)) -> Path:
    """Write a phantom as PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = (make_phantom(seed, "normal", size).pixels << 4).astype(np.uint16)
    cv2.imwrite(str(path), (pixels >> 8).astype(np.uint8))
    return path


def dicom(path: Path, seed: int = 0, **arguments: object) -> Path:
    """Write a phantom as DICOM."""
    path.parent.mkdir(parents=True, exist_ok=True)
    written = write_dx(
        make_phantom(seed, "normal", (96, 80)), path.with_suffix(".dcm"), **arguments
    )
    return written if written == path else written.rename(path)


def table(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> Path:
    """Write a CSV file, packed if its name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    return path


NIH = ("Image Index", "Finding Labels", "Follow-up #", "Patient ID", "Patient Age", "Patient Sex",
       "View Position", "OriginalImage[Width", "Height]", "OriginalImagePixelSpacing[x",
       "y]")  # fmt: skip


def nih(folder: Path) -> Path:
    """Write three films of ChestX-ray14 in two of its picture folders, with lists and boxes."""
    png(folder / "images_001" / "images" / "00000001_000.png", 1)
    png(folder / "images_001" / "images" / "00000001_001.png", 2)
    png(folder / "images_002" / "images" / "00000002_000.png", 3)
    table(
        folder / "Data_Entry_2017_v2020.csv",
        NIH,
        [
            ("00000001_000.png", "Cardiomegaly|Emphysema", 0, 1, 57, "M", "PA", 9, 9, 0.1, 0.1),
            ("00000001_001.png", "No Finding", 1, 1, 58, "M", "AP", 9, 9, 0.1, 0.1),
            ("00000002_000.png", "Pleural_Thickening", 0, 2, 411, "F", "PA", 9, 9, 0.1, 0.1),
            ("00000003_000.png", "Mass", 0, 3, 30, "F", "PA", 9, 9, 0.1, 0.1),
        ],
    )
    (folder / "train_val_list.txt").write_text("00000001_000.png\n00000001_001.png\n")
    (folder / "test_list.txt").write_text("00000002_000.png\n00000003_000.png\n")
    (folder / "BBox_List_2017.csv").write_text(
        "Image Index,Finding Label,Bbox [x,y,w,h],,,\n"
        "00000001_000.png,Cardiomegaly,102.4,204.8,512,256\n"
    )
    return folder


CHEXPERT_LABELS = ("No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity",
                   "Lung Lesion", "Edema", "Consolidation", "Pneumonia", "Atelectasis",
                   "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture",
                   "Support Devices")  # fmt: skip


def _cells(said: Mapping[str, float]) -> list[object]:
    return [said.get(label, "") for label in CHEXPERT_LABELS]


def chexpert(folder: Path) -> Path:
    """Write four films of CheXpert: one frontal and one lateral of training, two others."""
    rows = {"train": [], "valid": []}
    films = [
        ("train", "patient00001/study1/view1_frontal.jpg", "Female", 68, "Frontal", "AP",
         {"No Finding": 1.0, "Support Devices": 1.0}),
        ("train", "patient00002/study2/view2_lateral.jpg", "Male", 0, "Lateral", "",
         {"Edema": -1.0, "Pleural Effusion": 1.0, "Pneumothorax": 0.0}),
        ("train", "patient00003/study1/view1_frontal.jpg", "Male", 40, "Frontal", "LL", {}),
        ("valid", "patient64541/study1/view1_frontal.jpg", "Male", 73, "Frontal", "PA",
         dict.fromkeys(CHEXPERT_LABELS, 0.0) | {"Cardiomegaly": 1.0}),
    ]  # fmt: skip
    for part, name, sex, age, frontal, view, said in films:
        png(folder / part / name)
        path = f"CheXpert-v1.0-small/{part}/{name}"
        rows[part].append((path, sex, age, frontal, view, *_cells(said)))
    header = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *CHEXPERT_LABELS)
    for part, own in rows.items():
        table(folder / f"{part}.csv", header, own)
    return folder


def mimic(folder: Path) -> Path:
    """Write three films of two studies of MIMIC-CXR-JPG; the third has no picture."""
    metadata, split = [], []
    for dicom_id, subject, study, view, part in (
        ("aaa-1", "10000032", "50414267", "PA", "train"),
        ("aaa-2", "10000032", "50414267", "LATERAL", "train"),
        ("bbb-1", "11000566", "55555555", "AP", "validate"),
        ("ccc-1", "12000000", "66666666", "PA", "test"),
    ):
        metadata.append((dicom_id, subject, study, view, 2500, 2000))
        split.append((dicom_id, study, subject, part))
        if dicom_id != "ccc-1":
            png(folder / "files" / f"p{subject[:2]}" / f"p{subject}" / f"s{study}"
                / f"{dicom_id}.jpg")  # fmt: skip
    table(folder / "mimic-cxr-2.0.0-metadata.csv.gz",
          ("dicom_id", "subject_id", "study_id", "ViewPosition", "Rows", "Columns"),
          metadata)  # fmt: skip
    table(folder / "mimic-cxr-2.0.0-split.csv.gz",
          ("dicom_id", "study_id", "subject_id", "split"), split)  # fmt: skip
    table(
        folder / "mimic-cxr-2.0.0-chexpert.csv.gz",
        ("subject_id", "study_id", *CHEXPERT_LABELS),
        [
            ("10000032", "50414267", *_cells({"Pneumonia": -1.0, "Edema": 1.0})),
            ("11000566", "55555555", *_cells({"No Finding": 1.0})),
        ],
    )
    return folder


VINDR = ("Aortic enlargement", "Atelectasis", "Calcification", "Cardiomegaly", "Clavicle fracture",
         "Consolidation", "Edema", "Emphysema", "Enlarged PA", "ILD", "Infiltration",
         "Lung Opacity", "Lung cavity", "Lung cyst", "Mediastinal shift", "Nodule/Mass",
         "Pleural effusion", "Pleural thickening", "Pneumothorax", "Pulmonary fibrosis",
         "Rib fracture", "Other lesion", "COPD", "Lung tumor", "Pneumonia", "Tuberculosis",
         "Other diseases", "No finding")  # fmt: skip
_BOXES = ("image_id", "rad_id", "class_name", "x_min", "y_min", "x_max", "y_max")


def vindr_cxr(folder: Path) -> Path:
    """Write a training film of three readers who differ, and a test film of one consensus."""
    dicom(folder / "train" / "aaaa.dicom", 1, age=45, PatientSex="M")
    dicom(folder / "test" / "bbbb.dicom", 2)
    notes = folder / "annotations"
    seen = ({"Tuberculosis", "Pleural effusion"}, {"Tuberculosis"}, {"Tuberculosis", "Nodule/Mass"})
    table(
        notes / "image_labels_train.csv",
        ("image_id", "rad_id", *VINDR),
        [
            ("aaaa", f"R{number}", *(int(word in words) for word in VINDR))
            for number, words in enumerate(seen, 8)
        ],
    )
    words = [word.replace("diseases", "disease") for word in VINDR]
    table(notes / "image_labels_test.csv", ("image_id", *words),
          [("bbbb", *(int(word == "No finding") for word in words))])  # fmt: skip
    table(notes / "annotations_train.csv", _BOXES,
          [("aaaa", "R8", "Pleural effusion", 8, 48, 40, 96),
           ("aaaa", "R8", "Rib fracture", 1, 1, 2, 2)])  # fmt: skip
    return folder


PCXR = ("No finding", "Bronchitis", "Brocho-pneumonia", "Other disease", "Bronchiolitis",
        "Situs inversus", "Pneumonia", "Pleuro-pneumonia", "Diagphramatic hernia", "Tuberculosis",
        "Congenital emphysema", "CPAM", "Hyaline membrane disease", "Mediastinal tumor",
        "Lung tumor")  # fmt: skip


def vindr_pcxr(folder: Path) -> Path:
    """Write two children's films, one with a local finding that only its box tells."""
    dicom(folder / "train" / "cccc.dicom", 3, age=2)
    dicom(folder / "test" / "dddd.dicom", 4, age=10 / 12)
    for part, image, word in (
        ("train", "cccc", "Brocho-pneumonia"),
        ("test", "dddd", "No finding"),
    ):
        table(folder / f"image_labels_{part}.csv", ("image_id", "rad_ID", *PCXR),
              [(image, "R1", *(float(each == word) for each in PCXR))])  # fmt: skip
    table(folder / "annotations_train.csv", ("image_id", "rad_ID", *_BOXES[2:]),
          [("cccc", "R1", "Consolidation", 8, 8, 40, 40)])  # fmt: skip
    return folder


PADCHEST = ("", "ImageID", "ImageDir", "StudyDate_DICOM", "StudyID", "PatientID", "PatientBirth",
            "PatientSex_DICOM", "ViewPosition_DICOM", "Projection", "MethodProjection", "Pediatric",
            "MethodLabel", "Labels")  # fmt: skip


def padchest(folder: Path) -> Path:
    """Write films of PadChest that are told apart by what their reports say."""
    said = (
        ("a.png", 0, "PA", "['normal']"),
        ("b.png", 1, "L", "['pleural effusion', 'tuberculosis sequelae', 'kyphosis']"),
        ("c.png", 1, "AP_horizontal", "['unchanged', '']"),
        ("d.png", 1, "COSTAL", "['callus rib fracture']"),
        ("e.png", 1, "PA", "[nan]"),
        ("f.png", 1, "PA", "['a word of a later release', 'Cardiomegaly ']"),
    )
    rows = []
    for number, (name, place, projection, labels) in enumerate(said):
        png(folder / str(place) / name, number)
        rows.append((number, name, place, 20140915, f"s{number}", f"p{number}", "1930.0", "F",
                     "", projection, "Manual", "No", "Physician", labels))  # fmt: skip
    table(folder / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv", PADCHEST, rows)
    return folder


def rsna(folder: Path) -> Path:
    """Write a film with two boxes, a normal one, and one that is neither."""
    for number, name in enumerate(("opacity", "normal", "other")):
        dicom(folder / "stage_2_train_images" / f"{name}.dcm", number, age=33, view="AP")
    table(folder / "stage_2_train_labels.csv", ("patientId", "x", "y", "width", "height", "Target"),
          [("opacity", 256.0, 128.0, 512.0, 256.0, 1), ("opacity", 0.0, 0.0, 102.4, 102.4, 1),
           ("normal", "", "", "", "", 0), ("other", "", "", "", "", 0)])  # fmt: skip
    table(folder / "stage_2_detailed_class_info.csv", ("patientId", "class"),
          [("opacity", "Lung Opacity"), ("opacity", "Lung Opacity"), ("normal", "Normal"),
           ("other", "No Lung Opacity / Not Normal")])  # fmt: skip
    return folder


def siim(folder: Path) -> Path:
    """Write a film with an outline of 3 columns by 5 rows, and one without."""
    for number, name in enumerate(("1.2.3", "1.2.4")):
        dicom(folder / "dicom-images-train" / f"9.{number}" / f"8.{number}" / f"{name}.dcm", number)
    first = 100 * 1024 + 200
    outline = f" {first} 5 1019 5 1019 5"
    # The space in the column's name is published.
    table(folder / "train-rle.csv", ("ImageId", " EncodedPixels"),
          [("1.2.3", outline), ("1.2.4", " -1")])  # fmt: skip
    return folder


def tbx11k(folder: Path) -> Path:
    """Write films of TBX11K's four kinds."""
    categories = [
        {"id": 1, "name": "ActiveTuberculosis", "supercategory": "Tuberculosis"},
        {"id": 2, "name": "ObsoletePulmonaryTuberculosis", "supercategory": "Tuberculosis"},
        {"id": 3, "name": "PulmonaryTuberculosis", "supercategory": "Tuberculosis"},
    ]
    parts = {
        "train": (("health/h0001.png", None), ("sick/s0001.png", None), ("tb/tb0001.png", 1)),
        "val": (("tb/tb0002.png", 2),),
    }
    for part, films in parts.items():
        images, annotations = [], []
        for number, (name, category) in enumerate(films, 1):
            png(folder / "imgs" / name, number)
            images.append({"id": number, "file_name": name, "width": 512, "height": 512})
            if category:
                annotations.append({"id": number, "image_id": number, "category_id": category,
                                    "bbox": [128.0, 64.0, 256.0, 128.0]})  # fmt: skip
        path = folder / "annotations" / "json" / f"TBX11K_{part}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {"categories": categories, "images": images, "annotations": annotations}
        path.write_text(json.dumps(content), encoding="utf-8")
    return folder


def nlm(folder: Path, prefix: str, readings: Mapping[str, str]) -> Path:
    """Write films of the National Library of Medicine with their readings."""
    for name, reading in readings.items():
        png(folder / "CXR_png" / f"{prefix}_{name}.png", len(name))
        path = folder / "ClinicalReadings" / f"{prefix}_{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(reading, encoding="utf-8")
    return folder


_REPORT = """<?xml version="1.0" encoding="utf-8"?>
<eCitation><uId id="CXR{number}"/><MeSH>{words}</MeSH>
<parentImage id="CXR{number}_1_IM-{number:04d}-3001"/>
<parentImage id="CXR{number}_1_IM-{number:04d}-4001"/></eCitation>"""


def open_i(folder: Path) -> Path:
    """Write three reports of two films each, and the views that Kaggle's copy brings."""
    said = (("normal",), ("Opacity/lung/base/left", "Thickening/pleura/apex"), ("No Indexing",))
    views = []
    for number, words in enumerate(said, 1):
        text = "".join(f"<major>{word}</major>" for word in words)
        path = folder / "ecgen-radiology" / f"{number}.xml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_REPORT.format(number=number, words=text), encoding="utf-8")
        for film, view in (("3001", "Frontal"), ("4001", "Lateral")):
            png(folder / "NLMCXR_png" / f"CXR{number}_1_IM-{number:04d}-{film}.png")
            views.append((number, f"{number}_IM-{number:04d}-{film}.dcm.png", view))
    table(folder / "indiana_projections.csv", ("uid", "filename", "projection"), views)
    return folder
