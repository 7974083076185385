"""New names for patients and pictures that leave the house: the same each time, for this house.

A keyed hash (RFC 2104): who does not hold the key cannot find out by trying patient numbers. The
key lies in the database and in its backups, so a later export names the same patients the same.
"""

import contextlib
import hashlib
import hmac
import secrets

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from vigil_inference.reading.tables import PseudonymKey
from vigil_inference.store import Store

_KEY_BYTES = 32
_SHOWN = 20


class Pseudonyms:
    """Renames.

    Parameters
    ----------
    secret
        The key.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def patient(self, issuer: str, patient_id: str, study_instance_uid: str) -> str:
        """Return a patient's new name; without a number each study has a patient of its own."""
        if not patient_id:
            return f"s{self._hash('study', study_instance_uid)[:_SHOWN]}"
        return f"p{self._hash('patient', issuer, patient_id)[:_SHOWN]}"

    def picture(self, sop_instance_uid: str) -> str:
        """Return a picture's new name."""
        return f"i{self._hash('picture', sop_instance_uid)[:_SHOWN]}"

    def uid(self, uid: str) -> str:
        """Return a new UID (DICOM PS3.5 B.2)."""
        return f"2.25.{int(self._hash('uid', uid)[:32], 16)}"

    def _hash(self, *parts: str) -> str:
        return hmac.new(self._secret, "\0".join(parts).encode(), hashlib.sha256).hexdigest()


def pseudonyms_of(store: Store) -> Pseudonyms:
    """Return an installation's pseudonyms; its key is made at their first use."""
    found = _secret(store)
    if found is None:
        fresh = PseudonymKey(id=1, secret=secrets.token_bytes(_KEY_BYTES))
        # Another node may have been faster; then its key is the key.
        with contextlib.suppress(IntegrityError), store.writing() as session:
            session.add(fresh)
        found = _secret(store)
    if found is None:
        raise RuntimeError("the key of pseudonyms was written and is not there")
    return Pseudonyms(found)


def _secret(store: Store) -> bytes | None:
    with store.reading() as session:
        return session.scalar(select(PseudonymKey.secret).where(PseudonymKey.id == 1))
