"""All routes, RPCs, methods and tests that docs/training-manager.md names exist."""

from __future__ import annotations

import re
from operator import attrgetter
from pathlib import Path

from kfadapter_grpc.client import Client
from kfadapter_grpc.methods import METHODS
from kfadapter_oran.legacy_http.routes import ROUTES

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "training-manager.md").read_text()


def test_every_route_is_compared() -> None:
    """Each route that is served over HTTP has its row, and each row is a route."""
    rows = re.findall(r"^\| `((?:GET|POST|DELETE) /[^`]*)`", TEXT, re.MULTILINE)
    assert sorted(rows) == sorted(f"{route.method} {route.path}" for route in ROUTES)


def test_what_replaces_it_is_there() -> None:
    """The RPCs and the client's methods in the table exist."""
    rpcs = {".".join(path.split(".")[-1].split("/")) for path in METHODS}
    named = set(re.findall(r"`(\w+Service\.\w+)`", TEXT))
    assert named
    assert named <= rpcs
    methods = set(re.findall(r"`client\.([\w.]+)\(", TEXT))
    assert methods
    with Client("127.0.0.1:1") as client:
        assert all(callable(attrgetter(method)(client)) for method in methods)


def test_every_fault_is_shown_by_tests() -> None:
    """Each of the eleven faults has its row, and the tests in it exist."""
    rows = re.findall(r"^\| (\d+) \|.*\| ([^|]+) \|$", TEXT, re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, 12))
    for _, shown in rows:
        tests = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", shown)
        assert tests
        for path, name in tests:
            assert f"\ndef {name}(" in (ROOT / path).read_text(), (path, name)
