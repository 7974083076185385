"""Passwords: how they are kept, which are taken, and the one-time ones.

Kept as Argon2id (RFC 9106) with 32 MiB, three passes, one lane: a tenth of a second on a slow PC.
Taken as NIST SP 800-63B section 5.1.1.2 asks: a length, a list of common ones, no rules of
composition and no expiry.
"""

import functools
import secrets
import threading
import unicodedata

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from vigil.errors import VigilError

LEAST_LENGTH = 12
MOST_LENGTH = 256
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"  # none is mistaken for another when it is copied
_HASHER = PasswordHasher(time_cost=3, memory_cost=32 * 1024, parallelism=1)
# Each hash takes 32 MiB: a crowd at the door must not take the machine's memory.
_TURNS = threading.BoundedSemaphore(2)
_COMMON = frozenset({
    "password1234", "password12345", "password123456", "passwordpassword", "administrator",
    "administrator1", "123456789012", "1234567890123", "12345678901234", "123456789123",
    "1234567891011", "012345678901", "123123123123", "111111111111", "000000000000",
    "121212121212", "112233445566", "987654321012", "qwertyuiop12", "qwertyuiop123",
    "qwerty123456", "qwertyqwerty", "qwertyuiopasdfgh", "qwertyuiopasdfghjkl", "asdfghjkl123",
    "1q2w3e4r5t6y", "1qaz2wsx3edc", "abcdefghijkl", "abcdefghijklm", "abc123456789",
    "abcd12345678", "iloveyou1234", "iloveyouforever", "letmein12345", "welcome12345",
    "changeme1234", "changemechangeme", "adminadminadmin", "admin1234567", "admin12345678",
    "rootrootroot", "testtesttest", "passw0rd1234", "p@ssword1234", "p@ssw0rd1234",
    "trustno1trustno1", "matkhau12345", "matkhau123456", "matkhaumatkhau", "anhyeuem1234",
    "motdepasse12", "motdepasse123", "azertyuiop12", "azertyuiop123", "azertyazerty",
    "radiologist1", "radiology123", "radiologie12", "hospital1234", "benhvien1234",
    "vigilvigilvigil", "vigilpassword", "vigil1234567",
})  # fmt: skip


class PasswordRefused(VigilError):
    """A new password is too easily guessed; the code says why."""

    http_status = 422

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def normal(password: str) -> str:
    """Return a password in one form, whichever keyboard composed its letters."""
    return unicodedata.normalize("NFKC", password)


def check_new(password: str, name: str) -> None:
    """Refuse a password that should not be taken.

    Raises
    ------
    PasswordRefused
        If it is short, long, common, of one letter, or the account's name.
    """
    password = normal(password)
    if not LEAST_LENGTH <= len(password) <= MOST_LENGTH:
        raise PasswordRefused(
            "PASSWORD_LENGTH", f"expected {LEAST_LENGTH} to {MOST_LENGTH} characters"
        )
    folded = password.casefold()
    if folded in _COMMON or len(set(folded)) < 3:
        raise PasswordRefused("PASSWORD_COMMON", "this password is among the first that are tried")
    letters = "".join(filter(str.isalnum, folded))
    own = "".join(filter(str.isalnum, name.casefold()))
    if own and not letters.replace(own, ""):
        raise PasswordRefused("PASSWORD_IS_NAME", "expected another password than the name")


def hash_password(password: str) -> str:
    """Return what is kept of a password."""
    with _TURNS:
        return _HASHER.hash(normal(password))


@functools.cache
def _nobodys() -> str:
    return _HASHER.hash(secrets.token_hex())


def verify(kept: str, password: str) -> bool:
    """Say whether a password is the one that was kept.

    Where none is kept ("") it takes as long, so that time does not tell which names there are.
    """
    with _TURNS:
        try:
            return _HASHER.verify(kept or _nobodys(), normal(password)) and bool(kept)
        except (VerificationError, InvalidHashError):
            return False


def is_outdated(kept: str) -> bool:
    """Say whether a kept hash has other parameters than today's."""
    return bool(kept) and _HASHER.check_needs_rehash(kept)


def one_time_password() -> str:
    """Return a random password of 79 bits that can be read aloud: ``k7pm-3xqd-9wfe-ht4c``."""
    return "-".join("".join(secrets.choice(_ALPHABET) for _ in range(4)) for _ in range(4))
