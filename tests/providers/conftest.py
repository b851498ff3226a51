"""One relay before all recorded providers, shared by the tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.conftest import RelayProcess
from tests.providers.recorded_server import recorded_server
from tests.providers.recordings import ENVIRONMENT, settings


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RelayProcess]:
    """The relay. What it says of money at the end must add up."""
    with recorded_server() as server:
        process = RelayProcess(
            tmp_path_factory.mktemp("recorded") / "data", settings(server.url), ENVIRONMENT
        ).start()
        yield process
        try:
            assert process.cli("ledger", "verify")["ok"]
            assert "Traceback" not in process.errors(), process.errors()
        finally:
            process.stop()
