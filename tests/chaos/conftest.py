"""Leaves the proof on a small disk out, and says so, where nothing can be mounted (a container)."""

import pytest

from tests.chaos.disk import why_not_mounted

_LEFT_OUT = pytest.StashKey[str]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    needing = [item for item in items if item.get_closest_marker("small_disk")]
    if needing and (reason := why_not_mounted()):
        config.stash[_LEFT_OUT] = reason
        config.hook.pytest_deselected(items=needing)
        items[:] = [item for item in items if item not in needing]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reason = terminalreporter.config.stash.get(_LEFT_OUT, None)
    if reason:
        terminalreporter.section("a full disk was not proved")
        terminalreporter.line(reason, yellow=True)
