"""A node follows the site's record: it loads what serves, and says so where it cannot.

Until a person has changed the record a node serves the bundle that its settings name, and writes it
down. From then on the record decides. A change is noticed within seconds; the new bundle is loaded
and verified beside the one that serves, and takes its place between two pictures.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from sqlalchemy.exc import SQLAlchemyError

from vigil.bundle import default_bundle
from vigil.errors import BundleError, VigilError
from vigil.site_calibration import load_site_calibration
from vigil_inference.analysis import Analysis
from vigil_inference.promotion.queue import Pair
from vigil_inference.promotion.record import (
    Decision,
    Entry,
    SiteModels,
    last_number,
    read_models,
    write_decision,
)
from vigil_inference.promotion.shadow import ShadowWork
from vigil_inference.promotion.shelf import Shelf, Verified
from vigil_inference.promotion.stages import Action, RecordMoved, Stage
from vigil_inference.repeated import Repeated
from vigil_inference.settings import Settings
from vigil_inference.store import Store

if TYPE_CHECKING:
    from vigil.triager import Triager

log = structlog.get_logger(__name__)

_LOOK_SECONDS = 2.0


class ModelKeeper:
    """What one node serves, by the record.

    Parameters
    ----------
    store, settings
        Of the service.
    analysis
        Serves what is loaded here.
    shadow
        Reads in shadow what the record says.
    node
        How the record names this node, where it writes what its settings name.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        analysis: Callable[[], Analysis],
        shadow: ShadowWork,
        node: str,
    ) -> None:
        self._store = store
        self._settings = settings
        self._analysis = analysis
        self._shadow = shadow
        self._node = node
        self._shelf = Shelf(settings)
        self._lock = threading.Lock()
        self._loaded: tuple[str, str] | None = None
        self._seen = 0
        self._tried_at = 0.0
        self.network = ""
        """Which of the bundle's networks answers, once it is loaded."""
        self.problem = ""
        """Why this node goes on with another bundle than the record says; "" it does not."""
        self.stage = ""
        """Of the bundle that serves here, as the record had it at the last look."""
        self._looks = Repeated("models", self.look, _LOOK_SECONDS)

    def start(self) -> None:
        """Look at the record again and again."""
        self._looks.start()

    def stop(self, timeout_seconds: float) -> None:
        """Look no more."""
        self._looks.stop(timeout_seconds)

    def first(self) -> "Triager":
        """Load what is to serve from the start.

        Raises
        ------
        BundleError
            If it cannot be; pictures wait meanwhile.
        """
        with self._lock:
            try:
                models = read_models(self._store)
            except (SQLAlchemyError, TimeoutError) as error:
                raise BundleError(
                    f"the record of bundles cannot be read ({type(error).__name__})"
                ) from error
            if models.is_decided and models.serving is not None:
                verified = self._shelf.load(models.serving)
                self._warn_of_another_setting(models.serving)
                key = models.serving.key
            else:
                verified = self._by_setting()
                key = self._write_down(models, verified)
            self._take(verified, key, is_supervised=models.is_supervised)
            return verified.triager

    def look(self) -> None:
        """Follow the record if it was changed, or could not be followed before."""
        with self._store.reading() as session:
            number = last_number(session)
        is_due = self.problem and time.monotonic() - self._tried_at > (
            self._settings.model_retry_seconds
        )
        if number == self._seen and not is_due:
            return
        with self._lock:
            # Until the first bundle serves, `first` is asked again and again.
            if self._loaded is not None:
                self._follow(read_models(self._store))

    def _follow(self, models: SiteModels) -> None:
        serving = models.serving
        if serving is None or not models.is_decided:
            self.stage = "" if serving is None else serving.stage.value
            self._seen = models.number
            return
        self._tried_at = time.monotonic()
        if serving.key != self._loaded and not self._load(serving, models):
            self._shadow.follow(None)
            self._seen = models.number
            return
        self.problem, self.stage = "", serving.stage.value
        self._analysis().supervise(serving.digest if models.is_supervised else "")
        shadow = models.shadow
        self._shadow.follow(None if shadow is None else Pair(shadow, serving, models.is_supervised))
        self._seen = models.number

    def _load(self, serving: Entry, models: SiteModels) -> bool:
        """Put the record's bundle in the place of the one that serves; False if it cannot be."""
        try:
            verified = self._shelf.load(serving)
        except VigilError as error:
            problem = str(error)
        except Exception as error:  # a broken bundle must not silence the one that serves
            problem = f"it failed to load ({type(error).__name__})"
        else:
            self._take(verified, serving.key, is_supervised=models.is_supervised)
            self._analysis().use(verified.triager)
            log.info("model_changed", bundle=serving.name, stage=serving.stage.value)
            return True
        status = self._analysis().status
        said = (
            f"goes on with {status.bundle_id} {status.bundle_digest[:12]}: {serving.name}, which "
            f"is {serving.stage.value} by the record, cannot be served here: {problem}"
        )
        if said != self.problem:
            log.error("model_not_changed", reason=said)
        self.problem = said
        return False

    def _take(self, verified: Verified, key: tuple[str, str], *, is_supervised: bool) -> None:
        triager = verified.triager
        self._loaded, self.network = key, str(triager.network)
        if is_supervised:
            self._analysis().supervise(triager.bundle.digest)
        log.info("network", bundle=triager.bundle.id, network=self.network)
        if triager.site_calibration:
            log.info("site_calibration", name=triager.site_calibration)
        if verified.difference is None:
            log.warning("no_reference_outputs", bundle=triager.bundle.id)
        else:
            log.info(
                "reference_outputs_hold", bundle=triager.bundle.id, difference=verified.difference
            )

    def _by_setting(self) -> Verified:
        return self._shelf.verify(self._set_folder(), self._settings.site_calibration)

    def _set_folder(self) -> Path:
        return self._settings.bundle or default_bundle()

    def _write_down(self, models: SiteModels, verified: Verified) -> tuple[str, str]:
        """Write into the record what the settings name; return which model that is.

        It is served whether or not that succeeds.
        """
        bundle, file = verified.triager.bundle, self._settings.site_calibration
        entry = Entry(
            bundle.digest,
            bundle.id,
            Stage.LIVE,
            self._store.now(),
            source=str(bundle.folder.absolute()),
            calibration_name=verified.triager.site_calibration,
            calibration_digest="" if file is None else load_site_calibration(file).digest,
            calibration_source="" if file is None else str(file.absolute()),
        )
        before = models.serving
        if before is not None and before.key == entry.key:
            return entry.key
        is_same = before is not None and before.digest == entry.digest
        decision = Decision(
            after=models.number,
            action=Action.CALIBRATION if is_same else Action.SETTING,
            made_by=f"{self._node} (settings)",
            reason="the first start"
            if before is None
            else "another setting than at the last start",
            entry=entry,
            others=() if before is None or is_same else (replace(before, stage=Stage.RETIRED),),
        )
        try:
            write_decision(self._store, decision)
        except RecordMoved:
            log.info("record_written_by_another")
        except (SQLAlchemyError, TimeoutError) as error:
            log.warning("record_not_written", error=type(error).__name__)
        return entry.key

    def _warn_of_another_setting(self, serving: Entry) -> None:
        """Say that the setting `bundle` does not decide any more."""
        try:
            named = self._set_folder()
        except BundleError:
            return
        if named.absolute() not in (Path(serving.source), self._shelf.place_of(serving.digest)):
            log.warning(
                "setting_not_followed",
                setting="bundle",
                advice=f"the record says {serving.name}; `vigil models shadow` and `promote` "
                "change it",
            )
