"""Who may do what."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from vigil_inference.access.account import (
    EVERYBODY,
    Account,
    NotAllowed,
    SignInRequired,
    require,
)
from vigil_inference.access.roles import ALLOWED, Permission, Role


def request(account: Account | None) -> Any:
    return cast(
        Any, SimpleNamespace(state=SimpleNamespace(**({"account": account} if account else {})))
    )


def test_a_role_without_the_permission_is_refused_with_its_name():
    technician = Account("t", "", frozenset({Role.TECHNICIAN}))
    with pytest.raises(NotAllowed, match="read_studies") as refused:
        require(Permission.READ_STUDIES)(request(technician))
    assert refused.value.http_status == 403


def test_one_of_several_roles_is_enough():
    both = Account("b", "", frozenset({Role.TECHNICIAN, Role.RADIOLOGIST}))
    assert require(Permission.READ_STUDIES)(request(both)) is both


def test_an_account_without_a_role_may_nothing():
    assert not any(Account("n", "", frozenset()).may(permission) for permission in Permission)


def test_a_request_that_passed_no_gate_is_nobodys():
    with pytest.raises(SignInRequired):
        require(Permission.SEE_WORKLIST)(request(None))


def test_without_accounts_everybody_may_everything():
    assert require(Permission.MANAGE_ACCOUNTS)(request(EVERYBODY)) is EVERYBODY
    assert all(EVERYBODY.may(permission) for permission in Permission)


def test_every_role_is_in_the_table_and_only_radiologists_read():
    assert set(ALLOWED) == set(Role)
    assert [role for role in Role if Permission.READ_STUDIES in ALLOWED[role]] == [Role.RADIOLOGIST]
