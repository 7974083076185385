"""The conformance statement is what the code says, and what the service does."""

import gc
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.uid import UID
from pynetdicom import AE, build_context

from vigil_inference.conformance.statement import make_statement
from vigil_inference.delivery.peers import Verdict, judge_dimse_status
from vigil_inference.service import Service
from vigil_inference.settings import Settings

DOCUMENT = Path(__file__).parents[3] / "docs" / "conformance.md"
_MOST_CONTEXTS = 128


def section(number: str) -> str:
    text = DOCUMENT.read_text(encoding="utf-8")
    found = re.search(rf"^#+ {re.escape(number)} .*?(?=^##|\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, number
    return found[0]


def rows(number: str) -> list[list[str]]:
    lines = [line for line in section(number).splitlines() if line.startswith("| ")]
    return [[cell.strip().strip("`") for cell in line.strip("| ").split(" | ")] for line in lines]


@pytest.fixture
def running(service: Service) -> Iterator[Service]:
    service.start()
    yield service
    service.stop()


def accepted(service: Service, pairs: list[tuple[str, str]]) -> set[tuple[str, str]]:
    """Propose pairs of SOP class and transfer syntax, and return those that are accepted."""
    found = set()
    for start in range(0, len(pairs), _MOST_CONTEXTS):
        ae = AE("ASKER")
        some = [build_context(*pair) for pair in pairs[start : start + _MOST_CONTEXTS]]
        association = ae.associate("127.0.0.1", service.listener.port, some)
        assert association.is_established
        found |= {
            (str(context.abstract_syntax), str(context.transfer_syntax[0]))
            for context in association.accepted_contexts
        }
        association.release()
    gc.collect()
    return found


def test_the_committed_statement_is_the_one_that_the_code_makes() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == make_statement(), (
        "run: python -m vigil_inference.conformance > docs/conformance.md"
    )


def test_every_class_and_syntax_of_the_statement_is_accepted_and_only_those(
    running: Service,
) -> None:
    syntaxes = {uid: (images, others) for _, uid, images, others in rows("3.3")[2:]}
    classes = {uid: kind for _, uid, kind in rows("3.4")[2:]}
    assert len(syntaxes) > 30
    assert len(classes) > 100
    stated = {
        (sop_class, syntax)
        for sop_class, kind in classes.items()
        for syntax, (images, others) in syntaxes.items()
        if kind == "video" or (images if kind == "images" else others) == "yes"
    }
    # One class of each kind with every syntax, and every class with the one that all must take.
    one_of_each = {kind: uid for uid, kind in classes.items()}
    asked = [(uid, syntax) for uid in one_of_each.values() for syntax in syntaxes]
    asked += [(uid, "1.2.840.10008.1.2") for uid in classes]
    asked = list(dict.fromkeys(asked))
    assert accepted(running, asked) == stated & set(asked)


def test_what_is_not_in_the_statement_is_not_accepted(running: Service) -> None:
    foreign = ["1.2.840.10008.5.1.4.1.2.2.2", "1.2.840.10008.5.1.4.31", "1.2.840.10008.3.1.2.3.3"]
    echo = ("1.2.840.10008.1.1", "1.2.840.10008.1.2")
    asked = [echo, *((uid, "1.2.840.10008.1.2") for uid in foreign)]
    assert accepted(running, asked) == {echo}
    for uid in foreign:
        assert uid not in DOCUMENT.read_text(encoding="utf-8")


def test_the_verdicts_on_statuses_are_those_of_the_code() -> None:
    words = {"taken": Verdict.ACCEPTED, "tried": Verdict.LATER, "the": Verdict.REFUSED}
    found = {int(code, 16): words[said.split()[0].strip(":")] for code, said in rows("4.2")[2:]}
    assert len(found) > 10
    assert found == {code: judge_dimse_status(code).verdict for code in found}


def test_every_setting_that_it_names_exists() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    names = set(re.findall(r"`((?:dicom|stow|storage|watch|delivery|result|http)_[a-z_]+)`", text))
    assert len(names) > 20
    assert names <= set(Settings.model_fields)


def test_its_storage_classes_have_the_names_of_the_standard() -> None:
    known = [(name, uid) for name, uid, _ in rows("3.4")[2:] if UID(uid).name != uid]
    assert len(known) > 100
    assert [(UID(uid).name, uid) for _, uid in known] == known


def test_its_links_lead_somewhere() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    heads = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", head.lower()).replace(" ", "-") for head in heads}
    for target in re.findall(r"\]\(([^)]+)\)", text):
        assert target.removeprefix("#") in anchors or (DOCUMENT.parent / target).is_file(), target
