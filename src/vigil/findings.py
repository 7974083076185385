"""The findings' vocabulary: labels, coded meanings, and where in the body they are.

A *label* is what a radiologist reads (``Pneumonia``). A *finding* of a bundle is a label for one
population: adults' and children's pneumonia are two findings that share a label, since they are
learnt from different films and calibrated apart (see :mod:`vigil.bundle`).

Codes were checked one by one; ``tests/core/test_findings.py`` compares those that pydicom's
dictionary holds. Two traps are worth naming: pydicom's ``codes.SCT.Cardiomegaly`` is another
concept (287272002), and a circulating "infiltration 47693006" is *Rupture of appendix*.
"""

from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Code:
    """A coded concept (DICOM PS3.3 section 8)."""

    value: str
    scheme: str
    meaning: str


LUNG = Code("39607008", "SCT", "Lung")
PLEURA = Code("3120008", "SCT", "Pleura")
HEART = Code("80891009", "SCT", "Heart")
CHEST = Code("816094009", "SCT", "Chest")


@dataclass(frozen=True)
class Concept:
    """What a label means: its code and the site it is in."""

    label: str
    code: Code
    site: Code


_CONCEPTS = (
    Concept("Atelectasis", Code("46621007", "SCT", "Atelectasis"), LUNG),
    Concept("Cardiomegaly", Code("8186001", "SCT", "Cardiomegaly"), HEART),
    Concept("Consolidation", Code("95436008", "SCT", "Lung consolidation"), LUNG),
    Concept("Edema", Code("19242006", "SCT", "Pulmonary edema"), LUNG),
    Concept("Effusion", Code("60046008", "SCT", "Pleural effusion"), PLEURA),
    Concept("Emphysema", Code("87433001", "SCT", "Pulmonary emphysema"), LUNG),
    Concept("Fibrosis", Code("51615001", "SCT", "Fibrosis of lung"), LUNG),
    Concept("Hernia", Code("39839004", "SCT", "Diaphragmatic hernia"), CHEST),
    Concept("Infiltration", Code("112121", "DCM", "Infiltrate"), LUNG),
    Concept("Lung_Lesion", Code("52988006", "SCT", "Lesion"), LUNG),
    Concept("Lung_Opacity", Code("112001", "DCM", "Opacity"), LUNG),
    Concept("Mass", Code("4147007", "SCT", "Mass"), LUNG),
    Concept("Nodule", Code("27925004", "SCT", "Nodule"), LUNG),
    Concept("Pleural_Thickening", Code("RID28509", "RADLEX", "Thickening"), PLEURA),
    Concept("Pneumonia", Code("233604007", "SCT", "Pneumonia"), LUNG),
    Concept("Pneumothorax", Code("36118008", "SCT", "Pneumothorax"), PLEURA),
    Concept("Tuberculosis", Code("154283005", "SCT", "Pulmonary tuberculosis"), LUNG),
)

CONCEPTS = MappingProxyType({concept.label: concept for concept in _CONCEPTS})
LABELS = tuple(CONCEPTS)

NO_FINDING = "No Finding"
"""A manifest's word for "none of the labels in scope"; never an output of a model."""

COVID_19 = "COVID-19"
"""Known to the manifest reader, never an output: no open set holds negatives for it."""
