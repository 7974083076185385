import re
from pathlib import Path
from typing import Any

import pytest

from vigil.errors import ConfigurationError
from vigil.triage import Priority
from vigil_inference.delivery.destinations import (
    DeliveryRule,
    DicomDestination,
    DicomWebDestination,
    FolderDestination,
    WebhookDestination,
)
from vigil_inference.delivery.rules import StudyFacts, destinations_of, judge
from vigil_inference.delivery.states import DeliveryState
from vigil_inference.settings import Settings, load_settings

FACTS = StudyFacts(
    sources=frozenset({"XR_WARD2"}),
    institution="Bệnh viện Huyện A",
    findings=frozenset({"Effusion"}),
    priority=Priority.URGENT,
)
PACS = {"name": "pacs", "kind": "c-store", "host": "pacs", "port": 104, "ae_title": "PACS"}
SHARE = {"name": "share", "kind": "folder", "path": "/mnt/share"}


def rule(**conditions: Any) -> DeliveryRule:
    return DeliveryRule(to=("pacs",), **conditions)


@pytest.mark.parametrize(
    ("conditions", "is_met"),
    [
        ({}, True),
        ({"sources": ["XR_*"]}, True),
        ({"sources": ["xr_*"]}, False),
        ({"sources": ["CT1", "XR_WARD?"]}, True),
        ({"institutions": ["bệnh viện huyện*"]}, True),
        ({"institutions": ["Huyện A"]}, False),
        ({"findings": ["Pneumothorax", "Effusion"]}, True),
        ({"findings": ["Pneumothorax"]}, False),
        ({"priorities": ["CRITICAL", "URGENT"]}, True),
        ({"priorities": ["CRITICAL"]}, False),
        ({"sources": ["XR_*"], "priorities": ["CRITICAL"]}, False),
    ],
)
def test_a_rule_is_met_when_all_its_conditions_hold(
    conditions: dict[str, Any], is_met: bool
) -> None:
    assert judge(rule(**conditions), FACTS).is_met is is_met


def test_a_rule_says_why_it_is_not_met() -> None:
    judgement = judge(rule(sources=["XR_*"], priorities=["CRITICAL"]), FACTS)
    assert [(c.holds, c.sentence) for c in judgement.conditions] == [
        (True, "source XR_WARD2 is among XR_*"),
        (False, "priority URGENT is not among CRITICAL"),
    ]


def test_without_rules_all_goes_everywhere_and_with_rules_where_one_leads() -> None:
    places = Settings(destinations=[PACS, SHARE]).destinations
    assert destinations_of(places, [], FACTS) == ("pacs", "share")
    rules = [rule(priorities=["CRITICAL"]), DeliveryRule(to=("share",))]
    assert destinations_of(places, rules, FACTS) == ("share",)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ('[[destinations]]\nname = "p"\nkind = "c-stor"\n', "destinations.0"),
        (
            '[[destinations]]\nname = "p"\nkind = "c-store"\nhost = "h"\nport = 104\n',
            r"destinations\.0\.c-store\.ae_title",
        ),
        (
            '[[destinations]]\nname = "p"\nkind = "stow"\nurl = "pacs.example"\n',
            r"destinations\.0\.stow\.url.*https://",
        ),
        (
            '[[destinations]]\nname = "p"\nkind = "stow"\nurl = "https://a:b@pacs.example"\n',
            r"destinations\.0\.stow\.url.*password",
        ),
        (
            '[[destinations]]\nname = "p"\nkind = "webhook"\nurl = "https://a"\n'
            'secret_file = "SECRET"\n',
            r"destinations\.0\.webhook\.secret_file.*whsec_",
        ),
        (
            '[[destinations]]\nname = "p"\nkind = "folder"\npath = "/a"\n'
            '[[destinations]]\nname = "p"\nkind = "folder"\npath = "/b"\n',
            "'p' stands there twice",
        ),
        (
            '[[destinations]]\nname = "p"\nkind = "folder"\npath = "/a"\n'
            '[[delivery_rules]]\nto = ["pacs"]\n',
            r"rule 1 names 'pacs', which is no destination \(there are: p\)",
        ),
        (
            '[[destinations]]\nname = "p"\nkind = "folder"\npath = "/a"\n'
            '[[destinations]]\nname = "q"\nkind = "folder"\npath = "/b"\n'
            '[[delivery_rules]]\nto = ["p"]\n',
            "no rule leads to q",
        ),
        (
            '[[destinations]]\nname = "p"\nkind = "folder"\npath = "/a"\n'
            '[[delivery_rules]]\nto = ["p"]\nfindings = ["Efusion"]\n',
            r"delivery_rules\.0\.findings.*'Efusion' is no finding, expected one of",
        ),
        (
            '[[destinations]]\nname = "p"\nkind = "c-store"\nhost = "h"\nport = 104\n'
            'ae_title = "P"\nproof = "storage-commitment"\n',
            "dicom_commitment_port",
        ),
        (
            '[[destinations]]\nname = "p"\nkind = "c-store"\nhost = "h"\nport = 104\n'
            'ae_title = "P"\ntls = { ca_file = "SECRET" }\n',
            r"destinations\.0\.c-store\.tls.*certificates cannot be used",
        ),
    ],
)
def test_a_wrong_destination_or_rule_is_an_error_that_says_where_and_what(
    tmp_path: Path, content: str, named: str
) -> None:
    (tmp_path / "secret").write_text("whsec_c2hvcnQ=\n", encoding="ascii")
    path = tmp_path / "vigil.toml"
    path.write_text(content.replace("SECRET", str(tmp_path / "secret")), encoding="utf-8")
    with pytest.raises(ConfigurationError, match=named):
        load_settings(path)


def test_every_field_of_destinations_and_rules_is_documented() -> None:
    document = Path(__file__).parents[3] / "docs" / "delivery.md"
    rows = [
        line.split("|")[1] for line in document.read_text(encoding="utf-8").splitlines()
        if line.startswith("| `")
    ]  # fmt: skip
    documented = {name for row in rows for name in re.findall(r"`([a-z_]+)`", row)}
    models = (
        DicomDestination, DicomWebDestination, FolderDestination, WebhookDestination, DeliveryRule,
    )  # fmt: skip
    fields = {name for model in models for name in model.model_fields} - {"to"}
    assert fields <= documented
    states = {state.value for state in DeliveryState}
    drawing = document.read_text(encoding="utf-8").split("```mermaid")[1].split("```")[0]
    assert states <= set(re.findall(r"[A-Z]{3,}", drawing))
