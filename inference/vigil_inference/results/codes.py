"""The codes that result objects use beside the findings' own (:mod:`vigil.findings`)."""

from highdicom.sr import CodedConcept

from vigil.findings import Code
from vigil_inference.results.study import Presence


def coded(code: Code) -> CodedConcept:
    """Return a code as highdicom's content items take it."""
    return CodedConcept(code.value, code.scheme, code.meaning)


MEASUREMENT_REPORT = CodedConcept("126000", "DCM", "Imaging Measurement Report")
IMAGING_REPORT = CodedConcept("18748-4", "LN", "Diagnostic Imaging Report")
IMAGING_PROCEDURE = CodedConcept("363679005", "SCT", "Imaging procedure")
PROCEDURE_REPORTED = CodedConcept("121058", "DCM", "Procedure Reported")
IMAGE_LIBRARY = CodedConcept("111028", "DCM", "Image Library")
IMAGE_LIBRARY_GROUP = CodedConcept("126200", "DCM", "Image Library Group")
IMAGING_MEASUREMENTS = CodedConcept("126010", "DCM", "Imaging Measurements")
QUALITATIVE_EVALUATIONS = CodedConcept("C0034375", "UMLS", "Qualitative Evaluations")
CAD_SUMMARY = CodedConcept("111017", "DCM", "CAD Processing and Findings Summary")
COMMENT = CodedConcept("121106", "DCM", "Comment")
PRIORITY = CodedConcept("260870009", "SCT", "Priority")
CERTAINTY = CodedConcept("111012", "DCM", "Certainty of Finding")
PERCENT = CodedConcept("%", "UCUM", "Percent")
# No public code of this ratio could be verified (docs/decisions/cardiothoracic-ratio.md).
CARDIOTHORACIC_RATIO = CodedConcept("CTR", "99VIGIL", "Cardiothoracic ratio")
RATIO = CodedConcept("{ratio}", "UCUM", "ratio")
PIXELS = CodedConcept("{pixels}", "UCUM", "Pixels")
SOURCE = CodedConcept("260753009", "SCT", "Source")
MODALITY = CodedConcept("121139", "DCM", "Modality")
PIXEL_DATA_ROWS = CodedConcept("110910", "DCM", "Pixel Data Rows")
PIXEL_DATA_COLUMNS = CodedConcept("110911", "DCM", "Pixel Data Columns")
ALGORITHM_NAME = CodedConcept("111001", "DCM", "Algorithm Name")
ALGORITHM_VERSION = CodedConcept("111003", "DCM", "Algorithm Version")
ALGORITHM_PARAMETERS = CodedConcept("111002", "DCM", "Algorithm Parameters")
ARTIFICIAL_INTELLIGENCE = CodedConcept("123110", "DCM", "Artificial Intelligence")
OF_INTEREST = CodedConcept("113000", "DCM", "Of Interest")
SOURCE_OF_PROCESSING = CodedConcept("121322", "DCM", "Source image for image processing operation")

MODALITIES = {
    "CR": CodedConcept("CR", "DCM", "Computed Radiography"),
    "DX": CodedConcept("DX", "DCM", "Digital Radiography"),
    "RG": CodedConcept("RG", "DCM", "Radiographic imaging"),
}
OTHER_MODALITY = CodedConcept("OT", "DCM", "Other")

PRESENCES = {
    Presence.PRESENT: CodedConcept("52101004", "SCT", "Present"),
    Presence.UNDETERMINED: CodedConcept("373068000", "SCT", "Undetermined"),
}
"""DICOM PS3.16 CID 240, without its "absent"."""

ALL_WITHOUT_FINDINGS = CodedConcept("111241", "DCM", "All algorithms succeeded; without findings")
ALL_WITH_FINDINGS = CodedConcept("111242", "DCM", "All algorithms succeeded; with findings")
SOME_WITH_FINDINGS = CodedConcept("111244", "DCM", "Not all algorithms succeeded; with findings")
