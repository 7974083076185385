"""A short run of each proof under fire; ``make chaos`` runs them in full."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.associations import prove_associations
from tests.chaos.destinations import prove_destinations
from tests.chaos.disk import prove_disk
from tests.chaos.fuzz import prove_fuzz
from tests.chaos.kills import prove_kills
from tests.chaos.nodes import prove_nodes
from tests.chaos.proof import Proof, prove

pytestmark = [pytest.mark.slow, pytest.mark.system, pytest.mark.timeout(900)]

Run = Callable[[Callable[[Proof], None]], None]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run a proof; what is broken fails the test, what cannot be run skips it."""

    def prove_it(action: Callable[[Proof], None]) -> None:
        outcome = prove("proof", tmp_path / "proof", action)
        if outcome.verdict == "not run":
            pytest.skip(outcome.detail)
        assert not outcome.failed, outcome.detail

    return prove_it


def test_a_service_killed_at_random_moments_keeps_its_promises(
    run: Run, stand_in_bundle: Path
) -> None:
    run(lambda proof: prove_kills(proof, stand_in_bundle, kills=4))


def test_destinations_in_trouble_get_everything_once_and_are_told_of_truly(
    run: Run, stand_in_bundle: Path
) -> None:
    troubles = ("archive_stopped", "out_of_resources", "warning", "hanging")
    run(lambda proof: prove_destinations(proof, stand_in_bundle, rounds=1, troubles=troubles))


@pytest.mark.small_disk
def test_a_full_and_a_read_only_disk_are_refused_and_recovered_from(
    run: Run, stand_in_bundle: Path
) -> None:
    run(lambda proof: prove_disk(proof, stand_in_bundle, rounds=1))


def test_forty_associations_are_served_beside_a_slow_and_a_broken_one(
    run: Run, stand_in_bundle: Path
) -> None:
    run(lambda proof: prove_associations(proof, stand_in_bundle, rounds=1, films_each=1))


def test_broken_files_and_pdus_break_nothing(
    run: Run, stand_in_bundle: Path, dicom_samples: Path
) -> None:
    run(lambda proof: prove_fuzz(proof, stand_in_bundle, dicom_samples, inputs=200))


def test_two_nodes_survive_a_kill_and_the_restart_of_their_database(
    run: Run, stand_in_bundle: Path
) -> None:
    run(
        lambda proof: prove_nodes(
            proof, stand_in_bundle, rounds=1, films_a_sender=3, lease_seconds=5
        )
    )


def test_a_proof_that_finds_something_is_broken_and_says_what(tmp_path: Path) -> None:
    def lose_one(proof: Proof) -> None:
        proof.count(acknowledged=2)
        proof.require_equal({"a"}, {"a", "b"}, "recorded objects")

    outcome = prove("kills", tmp_path / "p", lose_one)
    assert outcome.failed
    assert "recorded objects: 1 are missing" in outcome.detail


def test_an_error_in_a_proof_breaks_it_and_a_missing_peer_does_not_prove_it(
    tmp_path: Path,
) -> None:
    def fail(_proof: Proof) -> None:
        raise RuntimeError("the archive ended")

    def miss(_proof: Proof) -> None:
        pytest.skip("Orthanc is not installed")

    assert prove("kills", tmp_path / "a", fail).failed
    missed = prove("kills", tmp_path / "b", miss)
    assert (missed.verdict, missed.failed) == ("not run", False)
