import pytest
from pydicom.sr.codedict import codes

from vigil.findings import CONCEPTS, HEART, PLEURA, Code


@pytest.mark.parametrize(
    ("ours", "dictionary"),
    [
        (CONCEPTS["Edema"].code, codes.SCT.PulmonaryEdema),
        (CONCEPTS["Effusion"].code, codes.SCT.PleuralEffusion),
        (CONCEPTS["Infiltration"].code, codes.DCM.Infiltrate),
        (CONCEPTS["Lung_Lesion"].code, codes.SCT.Lesion),
        (CONCEPTS["Lung_Opacity"].code, codes.DCM.Opacity),
        (CONCEPTS["Mass"].code, codes.SCT.Mass),
        (CONCEPTS["Nodule"].code, codes.SCT.Nodule),
        (CONCEPTS["Pneumothorax"].code, codes.SCT.Pneumothorax),
        (PLEURA, codes.SCT.Pleura),
        (HEART, codes.SCT.Heart),
    ],
)
def test_codes_agree_with_the_dictionary(ours: Code, dictionary: object) -> None:
    assert ours.value == dictionary.value
    assert ours.scheme == dictionary.scheme_designator


def test_cardiomegaly_is_not_the_dictionarys_enlarged_septal_foramen() -> None:
    assert CONCEPTS["Cardiomegaly"].code.value == "8186001"
    assert codes.SCT.Cardiomegaly.value == "287272002"


def test_no_two_labels_share_a_code() -> None:
    values = [(c.code.scheme, c.code.value) for c in CONCEPTS.values()]
    assert len(set(values)) == len(values) == 17


def test_covid_is_not_an_output() -> None:
    assert "COVID-19" not in CONCEPTS
