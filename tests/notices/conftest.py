"""What the tests of notices share."""

from __future__ import annotations

from typing import NoReturn

import pytest
import structlog


@pytest.fixture(autouse=True)
def _silent_log() -> None:
    """Drops log lines that no test captures: threads write them at any time, between tests too."""
    structlog.configure(processors=[_drop], cache_logger_on_first_use=False)


def _drop(*_: object) -> NoReturn:
    raise structlog.DropEvent
