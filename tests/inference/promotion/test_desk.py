"""What is refused, and what it says."""

import threading

import pytest

from tests.inference.conftest import Until
from tests.inference.promotion.bundles import Bundles
from tests.inference.promotion.conftest import SendFilms, Site, asked, readings
from vigil.bundle import Calibration, OperatingPoint, load_bundle
from vigil.errors import BundleError
from vigil.site_calibration import SiteCalibration, SiteFinding, write_site_calibration
from vigil_inference.promotion.record import read_models
from vigil_inference.promotion.stages import MoveRefused, RecordMoved
from vigil_inference.service import Service


def calibration_for(folder: object, path: object, digest: str = "") -> object:
    finding = SiteFinding(
        key="Effusion",
        calibration=Calibration(method="platt", slope=1.0, intercept=-1.0),
        flag=OperatingPoint(threshold=0.3),
        patients=300,
        positive_patients=60,
    )
    made = SiteCalibration(
        site="Phú Thọ", created="2026-11-25", software="0", bundle_id="x",
        bundle_digest=digest or load_bundle(folder).digest,  # type: ignore[arg-type]
        manifest="films.csv", findings=(finding,), notice="research",
    )  # fmt: skip
    write_site_calibration(path, made)  # type: ignore[arg-type]
    return path


def test_a_reason_is_required(site: Site, serving: Service, bundles: Bundles) -> None:
    with pytest.raises(MoveRefused, match="--reason: expected why"):
        site.desk(serving).shadow(bundles.second, asked("  "))


def test_no_stage_is_skipped(site: Site, serving: Service, bundles: Bundles) -> None:
    desk = site.desk(serving)
    with pytest.raises(MoveRefused, match="is not in the record"):
        desk.promote(str(bundles.second), asked(anyway=True))
    with pytest.raises(MoveRefused, match=r"first .* is live: there is no stage after it"):
        desk.promote("first", asked(anyway=True))
    desk.shadow(bundles.second, asked())
    desk.withdraw(asked())
    with pytest.raises(MoveRefused, match="is retired: begin with `vigil models shadow`"):
        desk.promote("second", asked(anyway=True))
    assert site.stages(serving) == {"first": "live", "second": "retired"}


def test_there_is_room_for_one_in_shadow(site: Site, serving: Service, bundles: Bundles) -> None:
    desk = site.desk(serving)
    desk.shadow(bundles.second, asked())
    with pytest.raises(MoveRefused, match=r"second .* is in shadow already"):
        desk.shadow(bundles.third, asked())
    with pytest.raises(MoveRefused, match=r"first .* serves already"):
        desk.shadow(bundles.first, asked())


def test_too_few_pictures_are_refused_unless_that_is_set_aside_and_recorded(
    site: Site, serving: Service, bundles: Bundles, send_films: SendFilms, until: Until
) -> None:
    desk = site.desk(serving)
    desk.shadow(bundles.second, asked())
    until(lambda: serving.shadow.pair)
    send_films(serving, 2)
    until(lambda: [row.state for row in readings(serving)] == ["read", "read"])
    with pytest.raises(MoveRefused, match=r"2 pictures were read in shadow by both .* at least 3"):
        desk.promote("second", asked())
    change = desk.promote("second", asked("the old one fails", anyway=True))
    assert "2 pictures were read in shadow" in change.set_aside
    assert read_models(serving.store).changes[-1] == change
    with pytest.raises(MoveRefused, match="0 pictures were read under supervision by both"):
        desk.promote("second", asked())


def test_the_former_bundle_in_shadow_is_neither_promoted_nor_withdrawn(
    site: Site, serving: Service, bundles: Bundles
) -> None:
    desk = site.desk(serving)
    desk.shadow(bundles.second, asked())
    desk.promote("second", asked(anyway=True))
    with pytest.raises(MoveRefused, match="`vigil models rollback` goes back to it"):
        desk.promote("first", asked(anyway=True))
    with pytest.raises(MoveRefused, match="what a rollback goes back to"):
        desk.withdraw(asked())


def test_a_bundle_whose_outputs_differ_here_is_never_promoted(
    site: Site, serving: Service, bundles: Bundles
) -> None:
    desk = site.desk(serving)
    desk.shadow(bundles.second, asked())
    digest = read_models(serving.store).shadow.digest  # type: ignore[union-attr]
    path = serving.settings.data_dir / "bundles" / digest / "reference_outputs.json"
    text = path.read_text(encoding="utf-8")
    path.chmod(0o644)
    path.write_text(text.replace('"Effusion":0.0', '"Effusion":0.9').replace(
        '"Effusion": 0.0', '"Effusion": 0.9'), encoding="utf-8")  # fmt: skip
    assert path.read_text(encoding="utf-8") != text
    with pytest.raises(BundleError, match="outputs differ from the references"):
        desk.promote("second", asked(anyway=True))
    assert site.stages(serving)["second"] == "shadow"


def test_a_bundle_without_reference_outputs_needs_a_word_more(
    site: Site, serving: Service, bundles: Bundles
) -> None:
    (bundles.second / "reference_outputs.json").unlink()
    desk = site.desk(serving)
    with pytest.raises(MoveRefused, match="brings no reference outputs"):
        desk.shadow(bundles.second, asked())
    change = desk.shadow(bundles.second, asked(anyway=True))
    assert "brings no reference outputs" in change.set_aside


def test_a_site_calibration_of_another_bundle_is_refused(
    site: Site, serving: Service, bundles: Bundles
) -> None:
    own = calibration_for(bundles.first, site.folder / "first.json")
    with pytest.raises(BundleError, match="was made for bundle"):
        site.desk(serving).shadow(bundles.second, asked(), own)  # type: ignore[arg-type]
    desk = site.desk(serving, site_calibration=own)
    desk.shadow(bundles.second, asked())
    with pytest.raises(MoveRefused, match="thresholds that this site did not choose"):
        desk.promote("second", asked())
    assert site.stages(serving) == {"first": "live", "second": "shadow"}


def test_a_candidate_with_its_own_site_calibration_serves_with_it(
    site: Site, serving: Service, bundles: Bundles, until: Until
) -> None:
    own = calibration_for(bundles.second, site.folder / "second.json")
    desk = site.desk(serving)
    desk.shadow(bundles.second, asked(), own)  # type: ignore[arg-type]
    (site.folder / "second.json").unlink()  # its copy is what counts
    desk.promote("second", asked(anyway=True))
    until(lambda: serving.analysis.status.bundle_id == "second")
    model = serving.analysis._model
    assert model is not None
    assert getattr(model, "site_calibration").startswith("Phú Thọ (")  # noqa: B009
    entry = read_models(serving.store).serving
    assert entry is not None
    assert entry.calibration_name.startswith("Phú Thọ (")


def test_there_is_no_way_back_from_the_first(site: Site, serving: Service) -> None:
    with pytest.raises(MoveRefused, match="there is no way back"):
        site.desk(serving).rollback(asked())


def test_of_two_promotions_at_once_one_wins_and_the_other_says_who_was_faster(
    site: Site, serving: Service, bundles: Bundles
) -> None:
    site.desk(serving).shadow(bundles.second, asked())
    said: list[str] = []
    both_looked = threading.Barrier(2)

    def promote() -> None:
        desk = site.desk(serving)
        look = desk._shelf.load

        def load_together(entry: object) -> object:
            both_looked.wait(60)
            return look(entry)  # type: ignore[arg-type]

        desk._shelf.load = load_together  # type: ignore[method-assign,assignment]
        try:
            said.append(desk.promote("second", asked(anyway=True)).action.value)
        except RecordMoved as error:
            said.append(str(error))

    threads = [threading.Thread(target=promote) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    won, lost = sorted(said, key=len)
    assert won == "promote"
    assert "hanh@station: promote second" in lost
    assert "so nothing was done" in lost
    assert site.stages(serving) == {"first": "shadow", "second": "supervised"}
    assert read_models(serving.store).number == 3
