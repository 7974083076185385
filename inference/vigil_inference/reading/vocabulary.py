"""The words for what a reader sees: the findings' labels, and a few that no bundle speaks of.

A reading that leaves this house must mean the same elsewhere, so every word has a code. The
findings' codes are the core's; those of the others that pydicom's dictionary holds are compared
with it in the tests (DICOM PS3.16 CID 6101 to 6106 and the devices of chest films).
"""

from types import MappingProxyType

from vigil.findings import CHEST, CONCEPTS, HEART, LUNG, PLEURA, Code, Concept

_MEDIASTINUM = Code("72410000", "SCT", "Mediastinum")
_RIB = Code("113197003", "SCT", "Rib")
_SPINE = Code("51282000", "SCT", "Spine")

_OTHERS = (
    Concept("Aortic_Aneurysm", Code("67362008", "SCT", "Aortic aneurysm"), CHEST),
    Concept("Calcification", Code("112063", "DCM", "Abnormal calcifications"), CHEST),
    Concept("Central_Line", Code("112174", "DCM", "Central line"), CHEST),
    Concept("Chest_Tube", Code("112173", "DCM", "Chest tube"), PLEURA),
    Concept("Endotracheal_Tube", Code("26412008", "SCT", "Endotracheal tube"), CHEST),
    Concept("Feeding_Tube", Code("25062003", "SCT", "Feeding tube"), CHEST),
    Concept("Foreign_Body", Code("19227008", "SCT", "Foreign body"), CHEST),
    Concept("Interstitial_Pattern", Code("112004", "DCM", "Abnormal interstitial pattern"), LUNG),
    Concept("Lymphadenopathy", Code("30746006", "SCT", "Lymphadenopathy"), _MEDIASTINUM),
    Concept("Miliary_Pattern", Code("112129", "DCM", "Miliary pattern"), LUNG),
    Concept("Pacemaker", Code("14106009", "SCT", "Cardiac pacemaker"), HEART),
    Concept("Pneumomediastinum", Code("16838000", "SCT", "Pneumomediastinum"), _MEDIASTINUM),
    Concept("Rib_Fracture", Code("33737001", "SCT", "Fracture of rib"), _RIB),
    Concept("Scoliosis", Code("298382003", "SCT", "Scoliosis deformity of spine"), _SPINE),
)

OTHERS = MappingProxyType({concept.label: concept for concept in _OTHERS})
"""What a reader may add and no bundle, nor the training manifest, has a word for."""

VOCABULARY = MappingProxyType({**CONCEPTS, **OTHERS})
"""All that a reader may speak of, by label."""
