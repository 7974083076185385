import pytest
from pydicom.sr.codedict import codes

from vigil.findings import CONCEPTS
from vigil_inference.reading.vocabulary import OTHERS, VOCABULARY

# Of what pydicom's dictionary lacks, the codes were looked up one by one.
_NOT_IN_PYDICOM = {"Rib_Fracture", "Scoliosis"}
_KEYWORDS = {
    "Aortic_Aneurysm": codes.SCT.AorticAneurysm,
    "Calcification": codes.DCM.AbnormalCalcifications,
    "Central_Line": codes.DCM.CentralLine,
    "Chest_Tube": codes.DCM.ChestTube,
    "Endotracheal_Tube": codes.SCT.EndotrachealTube,
    "Feeding_Tube": codes.SCT.FeedingTube,
    "Foreign_Body": codes.SCT.ForeignBody,
    "Interstitial_Pattern": codes.DCM.AbnormalInterstitialPattern,
    "Lymphadenopathy": codes.SCT.Lymphadenopathy,
    "Miliary_Pattern": codes.DCM.MiliaryPattern,
    "Pacemaker": codes.SCT.CardiacPacemaker,
    "Pneumomediastinum": codes.SCT.Pneumomediastinum,
}


def test_every_word_has_a_code_of_its_own() -> None:
    found = [(one.code.scheme, one.code.value) for one in VOCABULARY.values()]
    assert len(set(found)) == len(found) == len(CONCEPTS) + len(OTHERS)
    assert not OTHERS.keys() & CONCEPTS.keys()


@pytest.mark.parametrize("label", sorted(OTHERS.keys() - _NOT_IN_PYDICOM))
def test_the_codes_are_those_of_dicoms_dictionary(label: str) -> None:
    code = OTHERS[label].code
    assert (code.value, code.scheme) == (_KEYWORDS[label].value, _KEYWORDS[label].scheme_designator)
