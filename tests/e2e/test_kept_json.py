"""`-o json` still prints every key that it used to: tests/data/cli_json.json, to which keys may be added."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.e2e.conftest import dev

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.conftest import Adapter

KEPT = Path(__file__).parents[1] / "data" / "cli_json.json"
FILE = "examples/train.yaml"
COMMANDS = {
    "upload": f"upload {FILE} --name kept",
    "get": "get kept",
    "list": "list",
    "versions": "versions kept",
    "experiments create": "experiments create kept",
    "experiments show": "experiments show kept",
    "experiments list": "experiments list",
    "run --watch": f"run {FILE} -p dataset_seed=1 --watch",
    "runs show": "runs show @latest",
    "runs list": "runs list",
    "runs metrics": "runs metrics -p dataset_seed",
    "artifacts list": "artifacts list @latest",
    "watch": "watch @latest",
    "recurring create": "recurring create kept --display-name kept --cron '0 0 3 * * *' -p dataset_seed=1",
    "recurring list": "recurring list",
    "runs archive": "runs archive @latest",
    "delete": "delete kept --force --yes",
}
"""Commands in the order in which they are run, each with `-o json`."""


def paths(value: object, path: str = "") -> Iterator[str]:
    """Yields the path of every key, and the type of its value unless that is null."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from paths(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for inner in value:
            yield from paths(inner, f"{path}[]")
    yield path
    if value is not None:
        yield f"{path}: {type(value).__name__}"


def printed(adapter: Adapter) -> dict[str, list[str]]:
    """Runs all commands; returns the paths in the output of each."""
    made = {}
    for name, command in COMMANDS.items():
        done = adapter.run(*shlex.split(command), "-o", "json")
        assert done.returncode == 0, (command, done.stderr.decode())
        made[name] = sorted({one for text in _values(done.stdout.decode()) for one in paths(text)})
    return made


def _values(text: str) -> Iterator[object]:
    decoder = json.JSONDecoder()
    rest = text.strip()
    while rest:
        value, end = decoder.raw_decode(rest)
        yield value
        rest = rest[end:].lstrip()


@pytest.fixture(scope="module")
def now(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The present output."""
    with dev(tmp_path_factory.mktemp("kept")) as running:
        return printed(running)


@pytest.mark.parametrize("command", COMMANDS)
def test_keys(command: str, now: dict[str, list[str]]) -> None:
    """Every recorded key is present, with a value of the same type."""
    kept = json.loads(KEPT.read_text("utf-8"))[command]
    assert set(kept) <= set(now[command]), sorted(set(kept) - set(now[command]))
