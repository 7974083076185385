import highdicom
import pydicom
from pydicom.filebase import DicomBytesIO

from tests.inference.results.studies import make_picture, make_source, make_study
from vigil_inference.results import Profile, build_key_objects, to_bytes


def test_the_pictures_with_flags_are_marked_of_interest():
    flagged = make_picture(source=make_source(number=1))
    negative = make_picture({"Mass": 0.1}, source=make_source(number=2))
    selection = build_key_objects(make_study(flagged, negative, key_objects=True))
    read = highdicom.ko.KeyObjectSelectionDocument.from_dataset(
        pydicom.dcmread(DicomBytesIO(to_bytes(selection)))
    )
    title = read.ConceptNameCodeSequence[0]
    assert (title.CodeValue, title.CodingSchemeDesignator) == ("113000", "DCM")
    references = read.content.get_references()
    assert [r.referenced_sop_instance_uid for r in references] == [flagged.sop_instance_uid]
    assert (read.Modality, read.SeriesNumber) == ("KO", 9003)


def test_a_reference_has_no_concept_name_for_row_8_of_the_template_forbids_it():
    selection = build_key_objects(make_study(key_objects=True))
    images = [item for item in selection.ContentSequence if item.ValueType == "IMAGE"]
    assert len(images) == 1
    assert "ConceptNameCodeSequence" not in images[0]


def test_there_is_no_selection_unless_it_is_wanted_and_something_is_flagged():
    assert build_key_objects(make_study()) is None
    assert build_key_objects(make_study(make_picture({"Mass": 0.1}), key_objects=True)) is None
    assert build_key_objects(make_study(key_objects=True, profile=Profile.CADT)) is None
