"""Which values a message can carry, how large records are cut, and that the tolerant reader equals the fast one."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import msgspec
import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct
from hypothesis import given
from hypothesis import strategies as st
from tests.transcripts import DATA

from kfadapter.v1 import run_pb2 as pb
from kfadapter_grpc.contract.errors import KfpError
from kfadapter_grpc.contract.run_outputs import RunArtifact, RunOutput
from kfadapter_grpc.contract.runs import Run, RunTask
from kfadapter_grpc.contract.values import NumberText, Replacements, object_violations, representable
from kfadapter_grpc.kfp import decoding
from kfadapter_grpc.kfp.decoding import decode
from kfadapter_grpc.kfp.experiments import ExperimentListJson
from kfadapter_grpc.kfp.pipelines import PipelineListJson
from kfadapter_grpc.kfp.recurring_runs import RecurringRunListJson
from kfadapter_grpc.kfp.run_json import RunJson, RunListJson
from kfadapter_grpc.kfp.transport import ResponseTooLargeError
from kfadapter_grpc.services.responses import MAX_RECORD_BYTES
from kfadapter_grpc.services.responses import message as message_of
from kfadapter_grpc.well_known import fill_object

if TYPE_CHECKING:
    from kfadapter_grpc.contract.spec import Json

_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(st.characters(exclude_categories=()), max_size=5)
    | st.builds(NumberText, st.just("1e999"))
)
_VALUES = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=3)
)
_FIELDS = [field.encode_name for field in msgspec.structs.fields(RunJson) if not field.required]
_TIMES = [
    "0000-01-01T00:00:00Z",
    "0001-01-01T00:00:00+23:00",
    "9999-12-31T23:59:59-23:00",
    "2026-01-02T03:04:05.1234567Z",
]
_LISTS: dict[str, type[object]] = {
    "runs": RunListJson,
    "recurringRuns": RecurringRunListJson,
    "pipelines": PipelineListJson,
    "experiments": ExperimentListJson,
}


@pytest.mark.slow
@given(st.dictionaries(st.text(max_size=3), _VALUES, max_size=3))
def test_a_struct_carries_anything(values: dict[str, Json]) -> None:
    """With any values, a Struct of them can be made, read back, and is JSON; valid values are unchanged."""
    replaced = Replacements()
    message = Struct()
    fill_object(values, message, (None, "parameters"), replaced)
    read = MessageToDict(type(message).FromString(message.SerializeToString()))
    json.dumps(read, allow_nan=False)
    if not replaced.texts():
        assert read == json.loads(json.dumps(values))


@given(st.dictionaries(st.sampled_from(_FIELDS), _VALUES | st.sampled_from(_TIMES), max_size=6))
def test_any_record_is_read_or_left_out(fields: dict[str, object]) -> None:
    """With any fields in a run, the run beside it is read, and both can be sent."""
    runs = [{"run_id": "odd", **fields}, {"run_id": "sound", "created_at": "2026-01-02T03:04:05Z"}]
    body = json.dumps({"runs": runs}).encode()
    found = decode(body, RunListJson).items
    read = [one.record() for one in found]
    assert [one.run_id for one in read if one.run_id != "odd"] == ["sound"]
    assert len(read) == 2
    for one in read:
        message = message_of(one, pb.Run)
        assert pb.Run.FromString(message.SerializeToString()) == message


@given(st.integers(1, 60), st.booleans())
def test_the_depth_is_what_every_receiver_parses(depth: int, objects: bool) -> None:
    """A value at the maximum depth can be parsed wherever a run is sent, also in the outputs of an event's run."""
    value: Json = 1
    for _ in range(depth):
        value = {"a": value} if objects else [value]
    artifact = RunOutput.of("m", RunArtifact(metadata={"x": value}))
    run = message_of(
        Run("r", parameters={"x": value}, tasks=(RunTask("t", outputs=(artifact, RunOutput("o", value))),)), pb.Run
    )
    event = pb.RunEvent(changed=pb.RunChanged(run=run))
    assert pb.RunEvent.FromString(event.SerializeToString()) == event
    assert bool(run.warnings) is (depth > (30 if objects else 45))


def test_replacements_are_bounded() -> None:
    """A thousand invalid values give twenty warnings and a count, each of bounded length."""
    replaced = Replacements()
    representable([math.nan] * 1000, (None, "parameters." + "x" * 5000), replaced)
    assert len(replaced.texts()) == 21
    assert replaced.texts()[-1] == "980 more values were replaced"
    assert max(map(len, replaced.texts())) < 250


@pytest.mark.parametrize(("value", "words"), [(math.nan, "not a finite"), ("한" * 2_000_000, "6000000 bytes")])
def test_what_a_message_holds_twice_is_noted_once(value: Json, words: str) -> None:
    """The artifact of an output is sent in two fields, one of them deprecated; the warning is about the other."""
    output = RunOutput.of("m", RunArtifact(name="m", metadata={"x": value}))
    (warning,) = message_of(Run("r", tasks=(RunTask("t", outputs=(output,)),)), pb.Run).warnings
    assert warning.startswith(
        ("tasks.t.outputs.m.artifacts.m.metadata.x: ", "tasks[0].outputs[0].artifacts[0].metadata.x: ")
    )
    assert words in warning


@pytest.mark.parametrize(
    ("value", "path"), [(math.inf, "p.x"), ([0, {"a": [2**53 + 1]}], "p.x[1].a[0]"), ({"\ud800": 1}, "p.x.\ufffd")]
)
def test_violations_name_the_path(value: Json, path: str) -> None:
    """A value that cannot be sent is reported with its path."""
    assert [one.field for one in object_violations({"x": value, "y": 2**53}, "p")] == [path]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("run", "words"),
    [
        (Run("r", error="에" * 2_000_000), "error: 6000000 bytes"),
        (Run("r", parameters={"x": {"y": "z" * 5_000_000}}), "parameters.x: 500"),
        (Run("r", parameters={f"p{number}": "x" * 100 for number in range(50_000)}), "parameters: 50000 entries"),
        (Run("r", tasks=tuple(RunTask("t" * 300) for _ in range(20_000))), "tasks: 20000 entries"),
        (Run("r", labels={"x" * 5_000_000: "y"}), "labels: 1 entries"),
    ],
)
def test_a_record_is_cut_to_what_callers_accept(run: Run, words: str) -> None:
    """A run that exceeds gRPC's default message size is cut, with a warning that has its position."""
    message = message_of(run, pb.Run)
    assert message.ByteSize() < MAX_RECORD_BYTES + 10_000
    assert any(warning.startswith(words) for warning in message.warnings)
    assert message.run_id == "r"


def test_the_careful_reader_reads_recordings_as_the_fast_one() -> None:
    """Every recorded list of KFP is read equally by both readers, so one malformed record does not change others."""
    read = 0
    for path in sorted((DATA / "transcripts").rglob("*.json")):
        document = json.loads(path.read_text("utf-8"))
        for step in document.get("steps", ()) if isinstance(document, dict) else document:
            body = step.get("response", {}).get("json")
            kind = next((kind for key, kind in _LISTS.items() if isinstance(body, dict) and key in body), None)
            if kind is not None and "_trimmed" not in json.dumps(body):
                text = json.dumps(body).replace("{time}", "2026-01-02T03:04:05Z")
                assert decoding._decode_tolerantly(text, kind) == msgspec.json.decode(text, type=kind)
                read += 1
    assert read >= 40


def test_a_malformed_response_is_read_up_to_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """A larger response is reported as too large, so that a smaller page is requested; it is never fully decoded."""
    body = b'{"runs":[{"run_id":"r","created_at":"odd"}]}'
    assert decode(body, RunListJson).items[0].run_id == "r"
    monkeypatch.setattr(decoding, "MAX_BYTES", len(body) - 1)
    with pytest.raises(ResponseTooLargeError):
        decode(body, RunListJson)


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ('{"runs": 5}', "$.runs is not a list"),
        ('{"runs": [7]}', "$.runs[0] is not an object"),
        ('{"runs": [{"run_id": "r", "created_at": 1}], "total_size": "many"}', "$.total_size is not a whole number"),
        ('{"runs": [{"run_id": "r"}', "line 1 column 26"),
    ],
)
def test_an_invalid_list_has_its_position(body: str, where: str) -> None:
    """A response that is not a list is an error with its position, not an empty list."""
    with pytest.raises(KfpError) as caught:
        decode(body.encode(), RunListJson, "list runs")
    assert "(list runs: " in caught.value.message
    assert where in caught.value.message
