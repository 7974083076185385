import pytest

from vigil_inference.folding import fold, patterns, searchable


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("Nguyễn^Văn Ân", "nguyen van an"),
        ("Đặng Thị Ước", "dang thi uoc"),
        ("Mu\u0308ller", "muller"),
        ("Łódź\x00", "lodz"),
        ("Yamada^Tarou=山田^太郎", "yamada tarou 山田 太郎"),
    ],
)
def test_text_is_folded_to_what_anybody_can_type(text: str, folded: str) -> None:
    assert fold(text) == folded


def test_a_word_with_punctuation_is_found_whole_and_in_its_parts() -> None:
    assert searchable("Trần-Lê^Hà", "P-12/7") == " tran-le tran le ha p-12/7 p 12 7"


def test_signs_of_a_pattern_stand_for_themselves() -> None:
    assert patterns("50%_ \\ \"o'b") == ["% 50\\%\\_%", "% \"o'b%"]
    assert patterns("  ") == []
