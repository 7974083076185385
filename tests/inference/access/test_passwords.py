"""Which passwords are taken, and who must wait for the next try."""

import httpx
import pytest

from tests.inference.access.conftest import PASSWORD
from vigil_inference.access.attempts import Attempts, TooManyAttempts
from vigil_inference.access.passwords import (
    PasswordRefused,
    check_new,
    hash_password,
    is_outdated,
    one_time_password,
    verify,
)


@pytest.mark.parametrize(
    ("password", "code"),
    [
        ("short-11-ch", "PASSWORD_LENGTH"),
        ("x" * 257, "PASSWORD_LENGTH"),
        ("Password1234", "PASSWORD_COMMON"),
        ("aaaaaaaaaaaaaaa", "PASSWORD_COMMON"),
        ("abababababab", "PASSWORD_COMMON"),
        ("Tran-Thi-Hanh", "PASSWORD_IS_NAME"),
        ("tranthihanhtranthihanh", "PASSWORD_IS_NAME"),
    ],
)
def test_what_is_easily_guessed_is_refused(password: str, code: str) -> None:
    with pytest.raises(PasswordRefused) as refused:
        check_new(password, "tran.thi.hanh")
    assert refused.value.code == code


@pytest.mark.parametrize(
    "password", ["con mèo trên mái nhà", "correct horse battery", "x1" + "ab" * 5]
)
def test_length_is_all_that_is_asked(password: str) -> None:
    check_new(password, "hanh")


def test_a_password_is_the_same_whichever_keyboard_composed_it() -> None:
    kept = hash_password("con m\u00e8o tr\u00ean m\u00e1i nh\u00e0")
    assert verify(kept, "con me\u0300o tre\u0302n ma\u0301i nha\u0300")
    assert not verify(kept, "con meo tren mai nha")


def test_it_is_kept_as_argon2id_with_its_parameters() -> None:
    kept = hash_password(PASSWORD)
    assert kept.startswith("$argon2id$v=19$m=32768,t=3,p=1$")
    assert kept != hash_password(PASSWORD)
    assert not is_outdated(kept)
    assert is_outdated(kept.replace("t=3", "t=1"))
    assert not verify("", PASSWORD)


def test_one_time_passwords_differ_and_would_be_taken() -> None:
    some = {one_time_password() for _ in range(100)}
    assert len(some) == 100
    for one in some:
        check_new(one, "admin")


class Time:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def waits(attempts: Attempts, name: str, address: str) -> float:
    try:
        attempts.check(name, address)
    except TooManyAttempts as error:
        return float(error.headers["Retry-After"])
    return 0.0


def test_after_five_wrong_tries_each_next_one_waits_twice_as_long() -> None:
    time = Time()
    attempts = Attempts(time)
    delays = []
    for _ in range(16):
        delay = waits(attempts, "hanh", "192.0.2.1")
        delays.append(delay)
        if delay:
            time.now += delay
            assert waits(attempts, "hanh", "192.0.2.1") == 0
    assert delays[:5] == [0] * 5
    assert delays[5:] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]


def test_a_right_password_takes_the_wrong_ones_back() -> None:
    time = Time()
    attempts = Attempts(time)
    for _ in range(4):
        attempts.check("hanh", "192.0.2.1")
    attempts.check("Hanh ", "192.0.2.1")
    attempts.succeeded("hanh", "192.0.2.1")
    assert waits(attempts, "hanh", "192.0.2.1") == 0


def test_an_address_that_tries_many_names_must_wait_too() -> None:
    attempts = Attempts(Time())
    for number in range(20):
        attempts.check(f"name-{number}", "192.0.2.1")
    assert waits(attempts, "another", "192.0.2.1") > 0
    assert waits(attempts, "another", "192.0.2.2") == 0


def test_what_is_remembered_stays_bounded() -> None:
    attempts = Attempts(Time())
    for number in range(25_000):
        attempts.check(f"name-{number}", f"address-{number}")
    assert len(attempts._records) <= 10_002


def test_over_http_the_sixth_wrong_try_is_told_when_to_come_again(stranger: httpx.Client) -> None:
    body = {"name": "radiologist", "password": "wrong horse battery"}
    codes = [stranger.post("/api/session", json=body).status_code for _ in range(5)]
    assert codes == [401] * 5
    body["password"] = PASSWORD
    answer = stranger.post("/api/session", json=body)
    assert (answer.status_code, answer.json()["code"]) == (429, "TOO_MANY_ATTEMPTS")
    assert int(answer.headers["retry-after"]) == 1
