"""Makes the README's picture of a study: ``python -m tests.system.study_picture``.

Generated films and made-up names, judged by a stand-in bundle that knows only these.
"""

import tempfile
from pathlib import Path

from tests.conftest import PROJECT
from tests.stand_in import write_stand_in
from tests.system.pages import chromium, opened_pages
from tests.system.peers import Vigil
from tests.system.test_restart import Sender
from vigil.phantom import make_phantom
from vigil.phantom.dicom import write_dx

PICTURE = PROJECT / "docs" / "images" / "study.png"
_FILMS = (("cardiomegaly", "20261124", 0.2), ("normal", "20260311", 0.2))


def main() -> None:
    """Start a service, send it a patient's two films, and keep what a reader sees."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "bundle").mkdir()
        write_stand_in(folder / "bundle")
        films = [
            write_dx(
                make_phantom(51 + number, kind, (1500, 1250)), folder / f"{number}.dcm",
                patient_name="Lê^Hoàng Đức", PatientID="MC1074", StudyDate=date, age=63,
                ImagerPixelSpacing=[spacing, spacing], PixelSpacing=[spacing, spacing],
                StudyDescription="Chest PA", InstitutionName="Bệnh viện huyện Mai Châu",
            )
            for number, (kind, date, spacing) in enumerate(_FILMS)
        ]  # fmt: skip
        vigil = Vigil(folder, folder / "bundle").start()
        try:
            Sender(vigil.dicom_port, films).wait()
            vigil.wait_for(len(films))
            study = next(s for s in vigil.studies() if s["study_date"] == _FILMS[0][1])
            with chromium() as browser, opened_pages(browser) as pages:
                page = pages(width=1440, height=860)
                page.goto(f"{vigil.url}/studies/{study['study_instance_uid']}")
                page.locator(".film[data-stage=full]").wait_for()
                page.locator("select.compare").select_option(index=1)
                page.locator(".film[data-stage=full]").nth(1).wait_for()
                page.get_by_label("Lungs and heart").check()
                page.locator("[data-map]").first.click()
                page.wait_for_timeout(1500)
                page.screenshot(path=PICTURE)
        finally:
            vigil.stop()


if __name__ == "__main__":
    main()
