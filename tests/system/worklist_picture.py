"""Makes the README's pictures: ``python -m tests.system.worklist_picture``.

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

IMAGES = PROJECT / "docs" / "images"
_SITES = ("Bệnh viện huyện Mai Châu", "Trạm y tế xã Pù Bin", "Trạm y tế xã Vân Hồ")
_FILMS = (
    ("normal", "Trần^Thị Bình"),
    ("effusion", "Nguyễn^Văn Ân"),
    ("lateral", "Phạm^Minh Châu"),
    ("cardiomegaly", "Lê^Hoàng Đức"),
    ("opacity", "Đặng^Thu Hà"),
    ("normal", "Vũ^Thị Ước"),
    ("effusion", "Hồ^Quốc Dũng"),
)


def main() -> None:
    """Start a service, send it the films, mark a study, and keep what a reader sees."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "bundle").mkdir()
        write_stand_in(folder / "bundle")
        films = [
            write_dx(
                make_phantom(30 + number, kind, (1024, 853)), folder / f"{number}.dcm",
                patient_name=patient, PatientID=f"MC{1000 + 37 * number}", StudyDate="20261125",
                StudyDescription="Chest PA", InstitutionName=_SITES[number % len(_SITES)],
            )
            for number, (kind, patient) in enumerate(_FILMS)
        ]  # fmt: skip
        vigil = Vigil(folder, folder / "bundle").start()
        try:
            Sender(vigil.dicom_port, films).wait()
            vigil.wait_for(len(films))
            with chromium() as browser, opened_pages(browser) as pages:
                other = pages(height=900)
                other.goto(vigil.url)
                other.locator(".take").nth(1).click()
                desk = pages(height=900)
                phone = pages(language="vi", theme="light", width=390, height=844)
                for page, image in ((desk, "worklist.png"), (phone, "phone.png")):
                    page.goto(vigil.url)
                    page.locator("#live.is-on").wait_for()
                    page.locator(".row").nth(len(films) - 1).wait_for()
                    if page is phone:
                        # The film that was refused, and why: what a station's technician looks for.
                        page.locator(
                            ".row[data-priority=NOT_ANALYSED]"
                        ).scroll_into_view_if_needed()
                    page.wait_for_function(
                        "() => [...document.images].every((one) => one.complete)"
                    )
                    page.wait_for_timeout(500)  # complete is not yet painted
                    page.screenshot(path=IMAGES / image)
        finally:
            vigil.stop()


if __name__ == "__main__":
    main()
