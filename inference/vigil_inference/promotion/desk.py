"""Moving bundles between stages: what must hold before, and the change that is written.

The commands work on the database and the shelf, so they work while the service runs and while it is
down; running nodes notice within seconds. A bundle is verified here first, in the command's own
process, which a broken network may take down without harm.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import func, select

from vigil.bundle import Bundle, load_bundle
from vigil.errors import BundleError
from vigil.site_calibration import load_site_calibration
from vigil_inference.promotion.queue import READ
from vigil_inference.promotion.record import (
    Change,
    Decision,
    Entry,
    SiteModels,
    read_models,
    write_decision,
)
from vigil_inference.promotion.shelf import Shelf, calibration_name, fitting_calibration
from vigil_inference.promotion.stages import SERVING, Action, MoveRefused, Stage
from vigil_inference.promotion.tables import ShadowReading
from vigil_inference.settings import Settings
from vigil_inference.store import Store

_LEAST_PREFIX = 6


@dataclass(frozen=True)
class Asked:
    """Who wants a move, why, and whether what speaks against it is to be set aside."""

    by: str
    reason: str
    anyway: bool = False

    def __post_init__(self) -> None:
        if not self.reason.strip():
            raise MoveRefused("--reason: expected why, for those who read the record later")


class ModelDesk:
    """Shadow, promote, rollback, withdraw.

    Parameters
    ----------
    store, settings
        Of the installation.
    tell
        Called with a sentence for each step that takes a moment.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        tell: Callable[[str], None] = lambda sentence: None,
    ) -> None:
        self._store = store
        self._settings = settings
        self._shelf = Shelf(settings)
        self._tell = tell

    def shadow(self, folder: Path, asked: Asked, site_calibration: Path | None = None) -> Change:
        """Let a bundle read silently beside the one that serves.

        Raises
        ------
        MoveRefused
            If the record does not allow it.
        BundleError
            If the bundle, its site calibration or its reference outputs do not hold.
        StorageError
            If it, or the serving bundle, cannot be copied to where a rollback finds it.
        RecordMoved
            If somebody else was faster.
        """
        models = self._recorded()
        serving = self._serving(models)
        bundle = load_bundle(folder)
        if bundle.digest == serving.digest:
            raise MoveRefused(f"{serving.name} serves already; nothing could be compared")
        if models.shadow is not None:
            raise MoveRefused(
                f"{models.shadow.name} is in shadow already, and there is room for one; "
                "`vigil models withdraw` ends it"
            )
        entry = self._candidate(bundle, folder, site_calibration)
        set_aside = self._verify(
            self._shelf.verify(folder, site_calibration).difference, entry, asked
        )
        self._keep_serving(serving)
        self._tell(f"copying {entry.name} into {self._shelf.folder}")
        self._shelf.keep(bundle)
        return self._write(models, Action.SHADOW, asked, entry, set_aside=set_aside)

    def promote(self, name: str, asked: Asked) -> Change:
        """Move a bundle one stage on: from shadow to supervised, or from supervised to live.

        Raises
        ------
        MoveRefused
            If it would skip a stage, if its site calibration is missing, or if too few pictures
            were read by both bundles; the last two, and missing reference outputs, can be set
            aside with ``asked.anyway``.
        BundleError
            If its copy is not whole, or its outputs here are not those that were measured.
        RecordMoved
            If somebody else was faster.
        """
        models = self._recorded()
        entry, serving = self._find(models, name), self._serving(models)
        if entry.stage not in (Stage.SHADOW, Stage.SUPERVISED):
            raise MoveRefused(f"{entry.name} is {entry.stage.value}: {_NEXT[entry.stage]}")
        if entry.stage is Stage.SHADOW and models.is_supervised:
            raise MoveRefused(
                f"{entry.name} is the former bundle, in shadow for comparison while {serving.name} "
                "is under supervision; `vigil models rollback` goes back to it"
            )
        spoken = [self._verify(self._shelf.load(entry).difference, entry, asked)]
        is_first = entry.stage is Stage.SHADOW
        other = serving if is_first else models.shadow
        if is_first:
            spoken.append(self._check_calibration(entry, asked))
        spoken.append(self._check_pictures(entry, other, asked))
        set_aside = "; ".join(filter(None, spoken))
        if is_first:
            return self._write(
                models,
                Action.PROMOTE,
                asked,
                replace(entry, stage=Stage.SUPERVISED),
                replace(serving, stage=Stage.SHADOW),
                set_aside=set_aside,
            )
        others = [] if other is None else [replace(other, stage=Stage.RETIRED)]
        return self._write(
            models,
            Action.PROMOTE,
            asked,
            replace(entry, stage=Stage.LIVE),
            *others,
            set_aside=set_aside,
        )

    def rollback(self, asked: Asked) -> Change:
        """Go back to the former live bundle, whatever stage the serving one is at.

        Raises
        ------
        MoveRefused
            If there is none.
        BundleError
            If its copy is not whole, or its outputs here are not those that were measured.
        RecordMoved
            If somebody else was faster.
        """
        models = self._recorded()
        serving, former = self._serving(models), models.former
        if former is None:
            raise MoveRefused(f"{serving.name} has served from the start: there is no way back")
        self._tell(f"verifying {former.name}")
        self._shelf.load(former)
        return self._write(
            models,
            Action.ROLLBACK,
            asked,
            replace(former, stage=Stage.LIVE),
            replace(serving, stage=Stage.RETIRED),
        )

    def withdraw(self, asked: Asked) -> Change:
        """Take the candidate out of shadow.

        Raises
        ------
        MoveRefused
            If there is none, or a rollback may need it.
        RecordMoved
            If somebody else was faster.
        """
        models = self._recorded()
        shadow = models.shadow
        if shadow is None:
            raise MoveRefused("no bundle is in shadow")
        if models.is_supervised:
            raise MoveRefused(
                f"{shadow.name} is what a rollback goes back to while {self._serving(models).name} "
                "is under supervision; promote that one, or roll back"
            )
        return self._write(models, Action.WITHDRAW, asked, replace(shadow, stage=Stage.RETIRED))

    def _recorded(self) -> SiteModels:
        return read_models(self._store)

    def _serving(self, models: SiteModels) -> Entry:
        if models.serving is None:
            raise MoveRefused(
                "the record is empty: start the service once, and its bundle is written as live"
            )
        return models.serving

    def _find(self, models: SiteModels, name: str) -> Entry:
        """Return the bundle that a folder, an identifier or the beginning of a digest names."""
        path = Path(name)
        if path.is_dir():
            digest = load_bundle(path).digest
            found = [entry for entry in models.entries if entry.digest == digest]
        else:
            found = [
                entry
                for entry in models.entries
                if name == entry.bundle_id
                or (len(name) >= _LEAST_PREFIX and entry.digest.startswith(name.lower()))
            ]
        if len(found) > 1:
            names = ", ".join(entry.name for entry in found)
            raise MoveRefused(f"{name}: means several bundles ({names}); name one by its digest")
        if not found:
            raise MoveRefused(
                f"{name}: is not in the record; `vigil models shadow` is the first stage"
            )
        return found[0]

    def _candidate(self, bundle: Bundle, folder: Path, site_calibration: Path | None) -> Entry:
        entry = Entry(
            bundle.digest,
            bundle.id,
            Stage.SHADOW,
            self._store.now(),
            source=str(folder.absolute()),
        )
        if site_calibration is None:
            return entry
        calibration = fitting_calibration(site_calibration, bundle)
        self._shelf.keep_calibration(calibration, site_calibration)
        return replace(
            entry,
            calibration_name=calibration_name(calibration),
            calibration_digest=calibration.digest,
            calibration_source=str(site_calibration.absolute()),
        )

    def _keep_serving(self, serving: Entry) -> None:
        """Copy the serving bundle and its calibration, so that there is a way back to it."""
        source = self._shelf.folder_of(serving)
        try:
            bundle = load_bundle(source)
        except BundleError as error:
            raise MoveRefused(
                f"the serving bundle {serving.name} must be kept for a rollback, and is not to be "
                f"read here: {error}. Run this where the service runs"
            ) from error
        if bundle.digest != serving.digest:
            raise MoveRefused(
                f"the serving bundle must be kept for a rollback, and {source} holds another one "
                f"({bundle.digest[:12]}…, expected {serving.digest[:12]}…) since the service "
                "started: start it again, or put the bundle back"
            )
        self._shelf.keep(bundle)
        if serving.calibration_digest and (file := self._shelf.calibration_of(serving)):
            self._shelf.keep_calibration(load_site_calibration(file), file)

    def _verify(self, difference: float | None, entry: Entry, asked: Asked) -> str:
        if difference is not None:
            self._tell(f"{entry.name}: reference outputs hold within {difference:.1e}")
            return ""
        return _set_aside(
            asked,
            f"{entry.name} brings no reference outputs, so nothing shows that this machine "
            "computes what was measured",
        )

    def _check_calibration(self, entry: Entry, asked: Asked) -> str:
        named = self._settings.site_calibration
        if entry.calibration_digest or named is None:
            return ""
        calibration = load_site_calibration(named)
        if calibration.bundle_digest == entry.digest:
            return ""
        return _set_aside(
            asked,
            f"the site calibration {calibration_name(calibration)} was made for another bundle "
            f"({calibration.bundle_digest[:12]}…, expected {entry.digest[:12]}…): {entry.name} "
            "would judge by thresholds that this site did not choose. Make one with `vigil "
            "calibrate` and put the bundle into shadow with it",
        )

    def _check_pictures(self, entry: Entry, other: Entry | None, asked: Asked) -> str:
        least = self._settings.shadow_least_pictures
        count = 0 if other is None else self._count(entry, other)
        if count >= least:
            return ""
        where = "under supervision" if entry.stage is Stage.SUPERVISED else "in shadow"
        return _set_aside(
            asked,
            f"{count} pictures were read {where} by both bundles, expected at least {least} "
            "(shadow_least_pictures)",
        )

    def _count(self, entry: Entry, other: Entry) -> int:
        """Count the pictures of the present stage that both bundles read."""
        silent, serving = (entry, other) if entry.stage not in SERVING else (other, entry)
        with self._store.reading() as session:
            statement = select(func.count()).where(
                ShadowReading.bundle_digest == silent.digest,
                ShadowReading.serving_digest == serving.digest,
                ShadowReading.state == READ,
                ShadowReading.read_at >= silent.since,
            )
            return session.scalar(statement) or 0

    def _write(
        self,
        models: SiteModels,
        action: Action,
        asked: Asked,
        entry: Entry,
        *others: Entry,
        set_aside: str = "",
    ) -> Change:
        decision = Decision(
            after=models.number,
            action=action,
            made_by=asked.by,
            reason=asked.reason.strip(),
            entry=entry,
            others=others,
            set_aside=set_aside,
        )
        return write_decision(self._store, decision)


_NEXT = {
    Stage.LIVE: "there is no stage after it",
    Stage.RETIRED: "begin with `vigil models shadow`, no stage is skipped",
}


def _set_aside(asked: Asked, sentence: str) -> str:
    """Refuse, or note that it was to be done anyway."""
    if not asked.anyway:
        raise MoveRefused(f"{sentence}; --anyway sets this aside and writes it into the record")
    return sentence
