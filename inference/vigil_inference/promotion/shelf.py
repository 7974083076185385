"""Bundles on disk, each in a folder that is named by its digest, read-only and never removed.

What a rollback goes back to must be there, whatever became of the folder that it came from. A copy
appears under its name only when it is whole and flushed.
"""

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vigil.bundle import MANIFEST_NAME, Bundle, load_bundle
from vigil.errors import BundleError, StorageError
from vigil.site_calibration import SiteCalibration, at_site, load_site_calibration
from vigil_inference.intake import errno_name, sync_folder
from vigil_inference.pictures import least_shown
from vigil_inference.promotion.record import Entry
from vigil_inference.settings import Settings

if TYPE_CHECKING:
    from vigil.triager import Triager

_BESIDE = ("metrics.json", "MODEL_CARD.md", "reference_outputs.json")
_CALIBRATION = "site-calibration-{}.json"
_FILE_MODE, _FOLDER_MODE = 0o444, 0o555


@dataclass(frozen=True)
class Verified:
    """A bundle that was loaded and asked about its reference phantoms."""

    triager: "Triager"
    difference: float | None
    """Greatest difference from the reference outputs; None where it brings none."""


class Shelf:
    """The kept bundles of an installation.

    Parameters
    ----------
    settings
        Where they are, how much of the disk stays free, and how a network runs here.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.folder = settings.bundles_dir or settings.data_dir / "bundles"

    def place_of(self, digest: str) -> Path:
        """Where a bundle's copy lies, if there is one."""
        return self.folder / digest

    def holds(self, digest: str) -> bool:
        """Whether there is a copy."""
        return (self.place_of(digest) / MANIFEST_NAME).is_file()

    def keep(self, bundle: Bundle) -> Path:
        """Copy a bundle in, unless it is there already, and return where.

        Raises
        ------
        StorageError
            If the disk does not take it; nothing is left of the attempt.
        BundleError
            If what was copied is not what was read before.
        """
        place = self.place_of(bundle.digest)
        if self.holds(bundle.digest):
            _check_digest(place, bundle.digest)
            return place
        files = [bundle.folder / name for name in _names(bundle)]
        part = self.folder / f".{bundle.digest[:12]}.{uuid.uuid4().hex}.part"
        try:
            part.mkdir(parents=True)
            self._check_room(sum(file.stat().st_size for file in files))
            for file in files:
                _copy(file, part / file.name)
            _check_digest(part, bundle.digest)
            sync_folder(part)
            with contextlib.suppress(OSError):  # another command was faster: its copy is as good
                part.rename(place)
            if not self.holds(bundle.digest):
                raise StorageError(f"{place}: is in the way, expected no folder or a bundle")
            place.chmod(_FOLDER_MODE)
            sync_folder(self.folder)
        except OSError as error:
            raise StorageError(
                f"{self.folder}: the bundle was not copied ({errno_name(error)})"
            ) from error
        finally:
            _remove(part)
        return place

    def _check_room(self, size_bytes: int) -> None:
        """Leave the room that pictures need: a copy must never make the doors refuse.

        Raises
        ------
        StorageError
            If it would not be left.
        """
        free, reserve = shutil.disk_usage(self.folder).free, self._settings.storage_reserve_bytes
        if free - size_bytes < reserve:
            raise StorageError(
                f"{self.folder}: the bundle was not copied: it takes {size_bytes / 1e6:.1f} MB, "
                f"{free / 1e6:.1f} MB are free, of which {reserve / 1e6:.1f} MB are kept for "
                "pictures (storage_reserve_bytes)"
            )

    def keep_calibration(self, calibration: SiteCalibration, file: Path) -> Path:
        """Copy a site calibration in, unless it is there already.

        Raises
        ------
        StorageError
            If the disk does not take it.
        """
        place = self.folder / _CALIBRATION.format(calibration.digest)
        if place.is_file():
            return place
        part = place.with_name(f".{uuid.uuid4().hex}.part")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            _copy(file, part)
            part.replace(place)
            sync_folder(self.folder)
        except OSError as error:
            raise StorageError(
                f"{self.folder}: the site calibration was not copied ({errno_name(error)})"
            ) from error
        finally:
            part.unlink(missing_ok=True)
        return place

    def folder_of(self, entry: Entry) -> Path:
        """Return where a bundle of the record is read from: its copy, else where it came from."""
        return self.place_of(entry.digest) if self.holds(entry.digest) else Path(entry.source)

    def calibration_of(self, entry: Entry) -> Path | None:
        """Return the file of a bundle's site calibration, None where it uses its own thresholds.

        The one that the settings name counts where it was made for this bundle: a site that
        calibrates again need not promote again.

        Raises
        ------
        BundleError
            If the settings name a file that cannot be read.
        """
        named = self._settings.site_calibration
        if named is not None and load_site_calibration(named).bundle_digest == entry.digest:
            return named
        if not entry.calibration_digest:
            return None
        place = self.folder / _CALIBRATION.format(entry.calibration_digest)
        return place if place.is_file() else Path(entry.calibration_source)

    def load(self, entry: Entry) -> Verified:
        """Load a bundle of the record and verify it.

        Raises
        ------
        BundleError
            If it is not there, not whole, not the one of the record, or its outputs here are not
            those that were measured.
        """
        folder = self.folder_of(entry)
        _check_digest(folder, entry.digest)
        return self.verify(folder, self.calibration_of(entry))

    def verify(self, folder: Path, site_calibration: Path | None) -> Verified:
        """Load a bundle as the service does, and compare its reference outputs.

        Raises
        ------
        BundleError
            If it must not serve.
        """
        # The network's runtime takes a moment to load.
        from vigil.reference import check_reference_outputs
        from vigil.triager import Triager

        settings = self._settings
        triager = Triager.load(
            folder,
            settings.analysis_threads,
            settings.network,
            for_processing=settings.analyse_for_processing,
            least_shown=least_shown(settings.preview_pixels),
            site_calibration=site_calibration,
        )
        return Verified(triager, check_reference_outputs(triager))


def fitting_calibration(file: Path, bundle: Bundle) -> SiteCalibration:
    """Read a site calibration and check that it was made for a bundle.

    Raises
    ------
    BundleError
        If it cannot be read, was altered, or was made for another bundle.
    """
    calibration = load_site_calibration(file)
    at_site(bundle, calibration)
    return calibration


def calibration_name(calibration: SiteCalibration) -> str:
    """How the record names a site calibration, as results do."""
    return f"{calibration.site} ({calibration.digest[:12]})"


def _check_digest(folder: Path, digest: str) -> None:
    found = load_bundle(folder).digest
    if found != digest:
        raise BundleError(f"{folder}: expected bundle {digest[:12]}…, found {found[:12]}…")


def _names(bundle: Bundle) -> Iterator[str]:
    yield MANIFEST_NAME
    yield bundle.manifest.model.file
    if bundle.manifest.model_int8 is not None:
        yield bundle.manifest.model_int8.file
    yield from (name for name in _BESIDE if (bundle.folder / name).is_file())


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as read, target.open("xb") as written:
        shutil.copyfileobj(read, written)
        written.flush()
        os.fsync(written.fileno())
    target.chmod(_FILE_MODE)


def _remove(part: Path) -> None:
    if part.is_dir():
        shutil.rmtree(part, ignore_errors=True)
