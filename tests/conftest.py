"""Fixtures and settings shared by all tests."""

from __future__ import annotations

import logging
import os
import signal
from typing import TYPE_CHECKING, NoReturn

import hypothesis
import pytest
import structlog
from tests.scripted_kfp import ScriptedKfp

from kfadapter_embedded.process import start
from kfadapter_grpc.kfp import transport

if TYPE_CHECKING:
    from collections.abc import Iterator


# The duration of an example means nothing on a machine that runs other work.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


# A shell starts background processes with SIGINT ignored, and processes that tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


# The developer's own settings must not reach the processes that tests start.
for name in list(os.environ):
    if name.startswith(("KFADAPTER_", "KUBEFLOW_", "KF_")) and not name.startswith("KFADAPTER_TEST_"):
        del os.environ[name]
os.environ["XDG_CONFIG_HOME"] = os.devnull  # no contexts of theirs, and none are written


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the option to run the adapter against your own KFP."""
    parser.addoption(
        "--kfp-url",
        metavar="URL",
        default="",
        help="run tests/e2e against this Kubeflow Pipelines instead of an embedded one",
    )


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """Drops logs that a test does not capture, and removes handlers that write to a stderr that is closed by then."""
    structlog.configure(processors=[_drop], cache_logger_on_first_use=False)
    handlers, level = list(logging.root.handlers), logging.root.level
    yield
    structlog.reset_defaults()
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


def _drop(*_: object) -> NoReturn:
    raise structlog.DropEvent


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failed reads in this process are retried without a pause."""
    monkeypatch.setattr(transport, "BACKOFF_SECONDS", (0.0, 0.0))


@pytest.fixture
def kfp() -> Iterator[ScriptedKfp]:
    """A KFP scripted by the test."""
    with ScriptedKfp() as server:
        yield server


@pytest.fixture(scope="session")
def embedded_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of an embedded KFP shared by tests; each uses its own names."""
    with start(tmp_path_factory.mktemp("embedded-kfp")) as kfp:
        yield kfp.url


@pytest.fixture(scope="session")
def kfp_url(request: pytest.FixtureRequest) -> str:
    """The URL of the KFP that end-to-end tests run against."""
    given = str(request.config.getoption("--kfp-url"))
    return given.rstrip("/") or str(request.getfixturevalue("embedded_url"))
