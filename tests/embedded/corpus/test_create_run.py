"""Parameters that CreateRun accepts and rejects, as KFP 2.17.0 answered (`create_run.json` of the corpus)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from tests.embedded.corpus.corpus import files
from tests.embedded.runs import try_run
from tests.embedded.serving import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.embedded.conftest import Caller

_ROWS: list[dict[str, Any]] = json.loads(files()["create_run.json"])["rows"]
_KINDS = {"i": "NUMBER_INTEGER", "f": "NUMBER_DOUBLE", "s": "STRING", "b": "BOOLEAN", "l": "LIST", "d": "STRUCT"}
_OPTIONAL = {name: {"parameterType": kind, "isOptional": True} for name, kind in _KINDS.items()}
_SPEC = {
    "pipelineInfo": {"name": "create"},
    "root": {"dag": {}, "inputDefinitions": {"parameters": {**_OPTIONAL, "req": {"parameterType": "STRING"}}}},
    "schemaVersion": "2.1.0",
}


@pytest.fixture(scope="module")
def caller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    """Plain HTTP to a server that executes nothing."""
    with serving(tmp_path_factory.mktemp("create")) as running:
        yield running.caller


@pytest.mark.parametrize("row", _ROWS, ids=lambda row: json.dumps(row["parameters"])[:60])
def test_parameters(caller: Caller, row: dict[str, Any]) -> None:
    """Values are accepted, recorded and rejected as in KFP, but 4-byte characters only warn here."""
    code, answer = row["kfp"]
    reply = try_run(caller, pipeline_spec=_SPEC, runtime_config={"parameters": row["parameters"]})
    if code == 500 and "Incorrect string value" in answer:
        assert reply.status == 200, reply.text
        return
    assert reply.status == code, reply.text
    if code == 200:
        recorded: Any = reply.json["runtime_config"]
        assert repr(recorded["parameters"]) == repr(json.loads(answer))
    else:
        assert reply["message"] == answer
