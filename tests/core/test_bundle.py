import json
from pathlib import Path

import pytest

from tests.core.conftest import SIZE, build_bundle
from vigil.bundle import (
    Calibration,
    FindingSpec,
    OperatingPoint,
    Population,
    default_bundle,
    load_bundle,
)
from vigil.classifier import Classifier
from vigil.errors import BundleError


def _rewrite(folder: Path, **changes: object) -> None:
    path = folder / "bundle.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_bundle_is_read_back_as_it_was_written(bundle_folder: Path) -> None:
    bundle = load_bundle(bundle_folder)
    assert bundle.id == "tiny"
    assert bundle.preprocessing.size == SIZE
    assert bundle.digest == bundle.manifest.computed_digest()
    assert len(bundle.digest) == 64


def test_an_altered_threshold_is_noticed(bundle_folder: Path) -> None:
    path = bundle_folder / "bundle.json"
    path.write_text(path.read_text().replace('"threshold": 0.6', '"threshold": 0.7'))
    with pytest.raises(BundleError, match="the manifest was altered"):
        load_bundle(bundle_folder)


def test_an_altered_network_is_noticed(bundle_folder: Path) -> None:
    with (bundle_folder / "model.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(BundleError, match="the network was altered: expected SHA-256"):
        load_bundle(bundle_folder)


def test_a_threshold_belongs_to_the_digest(tmp_path: Path) -> None:
    one = build_bundle(tmp_path / "one")
    other = build_bundle(
        tmp_path / "other",
        findings=(
            one.findings[0].model_copy(update={"flag": OperatingPoint(threshold=0.61)}),
            *one.findings[1:],
        ),
    )
    assert one.model.sha256 == other.model.sha256
    assert one.digest != other.digest


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 1}, "format: Input should be 2"),
        ({"surprise": 1}, "surprise: Extra inputs are not permitted"),
        ({"findings": []}, "findings: Tuple should have at least 1 item"),
    ],
)
def test_another_schema_is_refused_by_field(
    bundle_folder: Path, changes: dict[str, object], message: str
) -> None:
    _rewrite(bundle_folder, **changes)
    with pytest.raises(BundleError, match=message):
        load_bundle(bundle_folder)


def test_an_unknown_preprocessing_version_is_refused(tmp_path: Path) -> None:
    manifest = build_bundle(tmp_path)
    changed = manifest.model_copy(
        update={"preprocessing": manifest.preprocessing.model_copy(update={"version": 7})}
    )
    (tmp_path / "bundle.json").write_text(
        json.dumps(changed.model_dump(mode="json") | {"digest": changed.computed_digest()})
    )
    with pytest.raises(BundleError, match="preprocessing version 7 is unknown"):
        load_bundle(tmp_path)


@pytest.mark.parametrize("missing", ["bundle.json", "model.onnx"])
def test_a_missing_file_is_named(bundle_folder: Path, missing: str) -> None:
    (bundle_folder / missing).unlink()
    with pytest.raises(BundleError, match=missing):
        load_bundle(bundle_folder)


def test_a_network_that_is_no_onnx_is_refused(tmp_path: Path) -> None:
    manifest = build_bundle(tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"not a network")
    import hashlib

    from vigil.bundle import write_manifest

    digest = hashlib.sha256(b"not a network").hexdigest()
    model = manifest.model.model_copy(update={"sha256": digest})
    write_manifest(tmp_path, manifest.model_copy(update={"model": model}))
    with pytest.raises(BundleError, match="onnxruntime cannot load it"):
        Classifier(load_bundle(tmp_path), threads=1)


def test_a_manifest_that_names_more_findings_than_the_network_has_is_refused(
    tmp_path: Path,
) -> None:
    manifest = build_bundle(tmp_path)
    extra = manifest.findings[0].model_copy(update={"key": "Mass", "label": "Mass"})
    build_bundle(tmp_path, findings=(*manifest.findings, extra))
    with pytest.raises(BundleError, match="has 3 channels, the manifest names 4"):
        Classifier(load_bundle(tmp_path), threads=1)


def test_one_label_for_one_population_is_one_finding(tmp_path: Path) -> None:
    manifest = build_bundle(tmp_path)
    twin = manifest.findings[1].model_copy(update={"key": "Pneumonia:twin"})
    with pytest.raises(ValueError, match="share a label and a population"):
        build_bundle(tmp_path, findings=(*manifest.findings, twin))


def test_a_critical_threshold_below_the_flags_is_refused() -> None:
    with pytest.raises(ValueError, match="critical threshold is below"):
        FindingSpec(
            key="Mass",
            label="Mass",
            calibration=Calibration(method="none"),
            flag=OperatingPoint(threshold=0.5),
            critical=OperatingPoint(threshold=0.4),
        )


@pytest.mark.parametrize(("age", "inside"), [(0.9, False), (1.0, True), (5.9, True), (6.0, False)])
def test_ages_count_in_completed_years(age: float, inside: bool) -> None:
    assert Population(min_age_years=1, max_age_years=5).includes_age(age) is inside


def test_of_several_bundles_default_names_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VIGIL_BUNDLE", raising=False)
    build_bundle(tmp_path / "models" / "one")
    assert default_bundle() == Path("models/one")
    build_bundle(tmp_path / "models" / "two")
    with pytest.raises(BundleError, match=r"several bundles \(one, two\)"):
        default_bundle()
    (tmp_path / "models" / "DEFAULT").write_text("two\n")
    assert default_bundle() == Path("models/two")
