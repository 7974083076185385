"""The stages of a bundle at a site, and the errors of moving between them."""

from enum import StrEnum

from vigil.errors import VigilError


class Stage(StrEnum):
    """How far a bundle has come here."""

    SHADOW = "shadow"
    """Reads silently what the serving bundle reads."""
    SUPERVISED = "supervised"
    """Serves; its results are marked, and the former bundle goes on in shadow."""
    LIVE = "live"
    """Serves."""
    RETIRED = "retired"
    """Serves no more, or never did; its copy is kept."""


SERVING = frozenset({Stage.SUPERVISED, Stage.LIVE})


class Action(StrEnum):
    """What changed the record."""

    SETTING = "setting"
    """A node started with the bundle that its settings name."""
    CALIBRATION = "calibration"
    """The same bundle with another site calibration, by the settings."""
    SHADOW = "shadow"
    PROMOTE = "promote"
    ROLLBACK = "rollback"
    WITHDRAW = "withdraw"


BY_A_PERSON = frozenset({Action.SHADOW, Action.PROMOTE, Action.ROLLBACK, Action.WITHDRAW})
"""From the first of these on nodes follow the record, and no longer the setting ``bundle``."""


class MoveRefused(VigilError):
    """A bundle is not moved to another stage; the message says what is missing."""

    code = "MODEL_MOVE_REFUSED"
    http_status = 409


class RecordMoved(VigilError):
    """Somebody else changed the record since it was looked at."""

    code = "MODEL_RECORD_MOVED"
    http_status = 409
