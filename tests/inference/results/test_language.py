import dataclasses
import unicodedata
from collections.abc import Iterator, Mapping

import pytest

from vigil.errors import RefusalCode
from vigil.findings import LABELS
from vigil.triage import Flag, Priority
from vigil_inference.results import Language
from vigil_inference.results.drawing import _font
from vigil_inference.results.language import (
    DISCLAIMER,
    Phrases,
    correction_sentence,
    flag_sentence,
    percent,
    phrases_of,
)
from vigil_inference.results.region import Correction


def _strings(phrases: Phrases) -> Iterator[str]:
    for field in dataclasses.fields(phrases):
        value = getattr(phrases, field.name)
        if isinstance(value, str):
            yield value
        elif isinstance(value, Mapping):
            yield from value.values()
        elif isinstance(value, tuple):
            yield from value


@pytest.mark.parametrize("language", Language)
def test_every_language_has_words_for_all_that_can_be_said(language):
    phrases = phrases_of(language)
    assert set(phrases.findings) == set(LABELS)
    assert set(phrases.priorities) == set(Priority)
    assert set(phrases.refusals) == set(RefusalCode)
    assert all(text.strip() == text and text for text in _strings(phrases))
    assert phrases.code.value == language


@pytest.mark.parametrize("language", Language)
def test_texts_are_composed_and_the_font_has_every_letter(language):
    font = _font(20, "Regular")
    missing = bytes(font.getmask("\ue123"))
    for text in (*_strings(phrases_of(language)), DISCLAIMER, "·"):
        assert unicodedata.is_normalized("NFC", text)
        for letter in set(text) - {" ", "\N{NO-BREAK SPACE}"}:
            assert bytes(font.getmask(letter)) != missing, letter


def test_no_two_findings_have_one_name():
    for language in Language:
        names = phrases_of(language).findings
        assert len(set(names.values())) == len(names)


def test_a_probability_is_never_rounded_to_certainty():
    phrases = phrases_of(Language.ENGLISH)
    assert [percent(p, phrases) for p in (0.0, 0.004, 0.5, 0.914, 0.999, 1.0)] == [
        "1%", "1%", "50%", "91%", "99%", "99%",
    ]  # fmt: skip


def test_a_flag_is_told_with_its_probability_and_threshold():
    flag = Flag("Effusion", "Effusion", 0.914, 0.35, Priority.URGENT)
    told = {language: flag_sentence(flag, phrases_of(language)) for language in Language}
    assert told[Language.ENGLISH] == "Pleural effusion 91% (threshold 35%)"
    assert told[Language.VIETNAMESE] == "Tràn dịch màng phổi 91% (ngưỡng 35%)"
    assert told[Language.FRENCH] == "Épanchement pleural 91\u00a0% (seuil 35\u00a0%)"


def test_a_correction_is_told_and_none_is_not():
    phrases = phrases_of(Language.ENGLISH)
    assert correction_sentence(Correction(), phrases) == ""
    assert correction_sentence(Correction(3, True), phrases) == (
        "Before its analysis the picture was turned 90° anticlockwise and inverted."
    )
