import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.core.conftest import build_bundle
from vigil.bundle import Bundle, Calibration, OperatingPoint, load_bundle
from vigil.cli import app
from vigil.errors import BundleError, ConfigurationError
from vigil.phantom import make_phantom
from vigil.phantom.dicom import write_dx
from vigil.reference import check_reference_outputs, write_reference_outputs
from vigil.site_calibration import (
    SiteCalibration,
    SiteFinding,
    at_site,
    load_site_calibration,
    write_site_calibration,
)
from vigil.triage import Priority
from vigil.triager import Triager


def _calibration(bundle: Bundle, **changes: object) -> SiteCalibration:
    finding = SiteFinding(
        key="Effusion",
        calibration=Calibration(method="platt", slope=0.5, intercept=1.0),
        flag=OperatingPoint(threshold=0.2, sensitivity=0.9, specificity=0.7),
        patients=300,
        positive_patients=60,
    )
    fields = {
        "site": "Phú Thọ",
        "created": "2026-11-25",
        "software": "0.1.0",
        "bundle_id": bundle.id,
        "bundle_digest": bundle.digest,
        "manifest": "films.csv",
        "findings": (finding,),
        "notice": "Research use only, not a medical device",
    }
    return SiteCalibration.model_validate(fields | changes)


@pytest.fixture
def film(tmp_path: Path) -> Path:
    return write_dx(make_phantom(3, "effusion", (300, 300)), tmp_path / "film.dcm")


def test_it_replaces_probability_and_threshold_of_its_findings_and_says_so(
    stand_in_bundle: Path, film: Path, tmp_path: Path
) -> None:
    path = tmp_path / "site.json"
    written = write_site_calibration(path, _calibration(load_bundle(stand_in_bundle)))
    plain = Triager.load(stand_in_bundle, threads=1)
    site = Triager.load(stand_in_bundle, threads=1, site_calibration=path)
    before, after = plain.triage(film), site.triage(film)
    logit = np.log(before.findings["Effusion"] / (1 - before.findings["Effusion"]))
    expected = 1 / (1 + np.exp(-(0.5 * logit + 1.0)))
    assert after.findings["Effusion"] == pytest.approx(expected, abs=1e-4)
    assert after.findings["Cardiomegaly"] == before.findings["Cardiomegaly"]
    assert (after.bundle_id, after.bundle_digest) == (before.bundle_id, before.bundle_digest)
    (flag,) = (flag for flag in after.flags if flag.label == "Effusion")
    assert flag.threshold == 0.2
    assert flag.priority is Priority.URGENT  # the site set no critical threshold
    name = f"Phú Thọ ({written.digest[:12]})"
    assert after.site_calibration == site.site_calibration == name
    assert after.notes[-1] == f"probability and threshold of Effusion are those of {name}"
    assert after.to_json(film)["site_calibration"] == name
    assert before.site_calibration == ""
    assert "site_calibration" not in before.to_json(film)
    assert not any("Phú Thọ" in note for note in before.notes)


def test_the_heat_map_is_on_the_sites_scale(
    stand_in_bundle: Path, film: Path, tmp_path: Path
) -> None:
    path = tmp_path / "site.json"
    write_site_calibration(path, _calibration(load_bundle(stand_in_bundle)))
    plain = Triager.load(stand_in_bundle, threads=1).triage(film).maps["Effusion"]
    own = Triager.load(stand_in_bundle, threads=1, site_calibration=path).triage(film)
    low, high = np.quantile(plain, (0.1, 0.9))
    assert np.ptp(np.quantile(own.maps["Effusion"], (0.1, 0.9))) < high - low


def test_the_installation_check_still_asks_the_network_itself(tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    build_bundle(folder)
    write_reference_outputs(folder)
    path = tmp_path / "site.json"
    write_site_calibration(path, _calibration(load_bundle(folder)))
    triager = Triager.load(folder, threads=1, site_calibration=path)
    assert check_reference_outputs(triager) == pytest.approx(0.0, abs=1e-6)


def test_another_bundle_is_refused_and_both_are_named(stand_in_bundle: Path) -> None:
    bundle = load_bundle(stand_in_bundle)
    other = _calibration(bundle, bundle_id="older", bundle_digest="a" * 64)
    with pytest.raises(BundleError, match="made for bundle older aaaaaaaaaaaa…, not for stand-in"):
        at_site(bundle, other)


def test_a_finding_that_the_bundle_has_not_is_refused(stand_in_bundle: Path) -> None:
    bundle = load_bundle(stand_in_bundle)
    own = _calibration(bundle).findings[0].model_copy(update={"key": "Mass"})
    with pytest.raises(BundleError, match="names the finding Mass, which stand-in does not have"):
        at_site(bundle, _calibration(bundle, findings=(own,)))


def test_an_altered_a_broken_and_a_missing_file_are_refused(
    stand_in_bundle: Path, tmp_path: Path
) -> None:
    path = tmp_path / "site.json"
    write_site_calibration(path, _calibration(load_bundle(stand_in_bundle)))
    assert load_site_calibration(path).site == "Phú Thọ"
    path.write_text(path.read_text(encoding="utf-8").replace("0.2", "0.3"), encoding="utf-8")
    with pytest.raises(BundleError, match="was altered; make it anew"):
        load_site_calibration(path)
    content = json.loads(path.read_text(encoding="utf-8")) | {"surprise": 1}
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(BundleError, match="surprise: Extra inputs"):
        load_site_calibration(path)
    with pytest.raises(BundleError, match="cannot be read"):
        load_site_calibration(tmp_path / "none.json")
    with pytest.raises(ConfigurationError, match="cannot be written"):
        write_site_calibration(path / "x.json", _calibration(load_bundle(stand_in_bundle)))


def test_the_command_line_takes_it(stand_in_bundle: Path, film: Path, tmp_path: Path) -> None:
    path = tmp_path / "site.json"
    write_site_calibration(path, _calibration(load_bundle(stand_in_bundle)))
    arguments = ["triage", str(film), "--bundle", str(stand_in_bundle), "--json"]
    result = CliRunner().invoke(app, [*arguments, "--site-calibration", str(path)])
    assert json.loads(result.output)["site_calibration"].startswith("Phú Thọ (")
