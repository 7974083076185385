import gc

import pytest

from vigil_inference.loading import nothing_is_garbage


def test_what_is_loaded_is_looked_through_no_more_and_later_garbage_is_found_again() -> None:
    frozen = gc.get_freeze_count()
    try:
        with nothing_is_garbage():
            assert not gc.isenabled()
            kept = [[] for _ in range(1000)]
        assert gc.isenabled()
        assert gc.get_freeze_count() >= frozen + len(kept)
    finally:
        gc.unfreeze()


def test_an_error_while_loading_leaves_the_collector_as_it_was() -> None:
    with pytest.raises(ImportError), nothing_is_garbage():
        raise ImportError
    assert gc.isenabled()
