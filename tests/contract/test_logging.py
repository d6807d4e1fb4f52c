from __future__ import annotations

import json
import subprocess
import sys

import pytest

LINES = """
import logging
import sys
import structlog
from kfadapter_grpc.daemon.log import configure_logging

configure_logging({log_format!r}, {level!r}, sys.stderr)
log = structlog.get_logger()
log.debug("a debug line")
log.info("an info line", name="hello")
log.warning("a warning line")
logging.getLogger("urllib3").warning("a line of a %s", "library")
logging.getLogger("urllib3").info("an info line of a library")
def fail(secret):
    raise RuntimeError("a fault")
try:
    fail("canary")
except RuntimeError as fault:
    log.error("an error line", exc_info=fault)
"""


def logged(log_format: str, level: str) -> str:
    """Logs some lines in a separate process; returns what it wrote to stderr."""
    code = LINES.format(log_format=log_format, level=level)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    return done.stderr


def test_json_lines() -> None:
    """In JSON every line is an object, including those of libraries and those with a traceback."""
    lines = [json.loads(line) for line in logged("json", "info").splitlines()]
    assert [(line["level"], line["event"]) for line in lines] == [
        ("info", "an info line"),
        ("warning", "a warning line"),
        ("warning", "a line of a library"),
        ("error", "an error line"),
    ]
    assert lines[0]["name"] == "hello"
    assert all(line["timestamp"].endswith("Z") for line in lines)
    assert "RuntimeError: a fault" in lines[-1]["exception"]


def test_console_lines() -> None:
    """In console format a line has no escape codes when written to a pipe."""
    text = logged("console", "debug")
    assert "a debug line" in text
    assert "name=hello" in text
    assert "RuntimeError: a fault" in text
    assert "\x1b" not in text


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_no_variables_in_tracebacks(log_format: str) -> None:
    """A traceback shows code, never the values of variables."""
    assert "secret = 'canary'" not in logged(log_format, "info")
    assert "an info line of a library" not in logged(log_format, "info")


def test_level() -> None:
    """Lines below the level are left out."""
    lines = [json.loads(line)["event"] for line in logged("json", "error").splitlines()]
    assert lines == ["an error line"]
