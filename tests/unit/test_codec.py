"""Records become messages and JSON, and messages become records, whatever values they hold."""

from __future__ import annotations

import json
from dataclasses import fields
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st

from kfadapter.v1 import artifact_pb2, experiment_pb2, identity_pb2, recurring_run_pb2, run_pb2
from kfadapter.v1 import pipeline_pb2 as pb
from kfadapter_grpc.codec import read_request, to_message, to_record
from kfadapter_grpc.contract import (
    artifacts,
    call,
    experiments,
    identity,
    pipelines,
    recurring_runs,
    run_outputs,
    runs,
    spec,
    watches,
)
from kfadapter_grpc.contract.errors import InvalidFieldError
from kfadapter_grpc.contract.experiments import ListExperimentsRequest
from kfadapter_grpc.contract.pipelines import ListPipelinesRequest, Pipeline
from kfadapter_grpc.contract.spec import Parameter, ParameterType, PipelineFormat, SpecSummary
from kfadapter_grpc.well_known import json_value, timestamp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.descriptor import Descriptor
    from google.protobuf.message import Message

    from kfadapter_grpc.contract.spec import Json

DESCRIPTORS: dict[str, Descriptor] = {
    name: one
    for file in (pb, run_pb2, artifact_pb2, experiment_pb2, recurring_run_pb2, identity_pb2)
    for name, one in file.DESCRIPTOR.message_types_by_name.items()
}
FRAMES = {
    *(
        "UploadPipelineRequest",
        "UploadPipelineResponse",
        "DownloadInfo",
        "DownloadPipelineResponse",
        "ReadLogsResponse",
        "ReadArtifactResponse",
    ),
    *("RunEvent", "RunChanged", "RunGone", "Heartbeat"),
    *("DeleteRunResponse", "DeleteExperimentResponse", "DeleteRecurringRunResponse"),
    *(name for name in DESCRIPTORS if name.startswith("List") and name.endswith("Response")),
}
"""The messages of streams and pages, which services/ and client/ read and make themselves."""
OTHER_NAMES = {
    "PipelineSpecSummary": SpecSummary,
    "WhoAmIResponse": identity.WhoAmI,
    "DeletePipelineResponse": pipelines.DeleteResult,
    "DeletePipelineVersionResponse": pipelines.DeleteVersionResult,
}
NOT_SENT = {("Parameter", "literals"), ("RunOutput", "artifact"), ("RunOutput", "value")}
"""Fields of records that are none of their messages, and those of a oneof that the record has one by one."""


def _record_of(name: str) -> type[Any]:
    modules = (pipelines, runs, run_outputs, watches, artifacts, experiments, recurring_runs, spec, call, identity)
    return OTHER_NAMES.get(name) or next(getattr(module, name) for module in modules if hasattr(module, name))


RECORDS = sorted(set(DESCRIPTORS) - FRAMES)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(-1e18, 1e18).map(lambda number: number + 0.0)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
SCALARS: dict[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.TYPE_STRING: TEXTS,
    FieldDescriptor.TYPE_BOOL: st.booleans(),
    FieldDescriptor.TYPE_DOUBLE: st.floats(allow_nan=False).map(lambda number: number + 0.0),
    FieldDescriptor.TYPE_INT32: st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_INT64: st.integers(-(2**63), 2**63 - 1),
}
OWN: dict[str, st.SearchStrategy[Any]] = {
    "google.protobuf.Timestamp": st.builds(
        lambda seconds, micros: Timestamp(seconds=seconds, nanos=micros * 1000),
        st.integers(-62_135_596_800, 253_402_300_799),
        st.integers(0, 999_999),
    ),
    "google.protobuf.Duration": st.builds(
        lambda seconds, micros: Duration(seconds=seconds, nanos=micros * 1000),
        st.integers(0, 10**9),
        st.integers(0, 999_999),
    ),
    "google.protobuf.Value": st.builds(lambda value: json_format.ParseDict(value, Value()), JSON),
    "google.protobuf.Struct": st.builds(
        lambda value: json_format.ParseDict(value, Struct()), st.dictionaries(TEXTS, JSON, max_size=3)
    ),
}


def _values(field: FieldDescriptor, level: int) -> st.SearchStrategy[Any]:
    kind = field.message_type
    if field.name == "cron" and kind is None:
        return st.just("0 0 4 * * *")  # the record adds the second and joins fields by single spaces
    if field.enum_type is not None:
        return st.sampled_from([one.number for one in field.enum_type.values if one.number])
    if kind is None:
        return SCALARS[field.type].filter(bool) if field.containing_oneof is not None else SCALARS[field.type]
    return OWN[kind.full_name] if kind.full_name in OWN else _messages(kind, level - 1)


@st.composite
def _messages(draw: st.DrawFn, kind: Descriptor, level: int = 3) -> Message:
    """Messages with some fields set, one of each oneof."""
    made: dict[str, Any] = {}
    for field in kind.fields:
        inner = field.message_type
        if (inner is kind and not level) or not draw(st.booleans()):
            continue
        if inner is not None and inner.GetOptions().map_entry:
            of_value = SCALARS[inner.fields_by_name["value"].type]
            made[field.name] = draw(st.dictionaries(TEXTS, of_value, max_size=2))
        elif field.is_repeated:
            several = st.lists(_values(field, level), max_size=2, unique=inner is None)
            made[field.name] = draw(several if inner is not None else several.map(sorted))
        else:
            made[field.name] = draw(_values(field, level))
    return GetMessageClass(kind)(**made)


def _parameter(message: pb.Parameter) -> Parameter:
    return to_record(message, Parameter)


def _pipeline(message: pb.Pipeline) -> Pipeline:
    return to_record(message, Pipeline)


@pytest.mark.parametrize("name", RECORDS)
def test_every_message_has_its_record(name: str) -> None:
    """A record has exactly the fields of its message, by name; optional fields may be None."""
    kind, record = DESCRIPTORS[name], _record_of(name)
    refs = {one.name for one in kind.oneofs if one.fields[0].message_type is None and len(one.fields) > 1}
    choices = {one.name for one in kind.oneofs if one.fields[0].message_type is not None and name != "RunOutput"}
    inside = {field.name for one in kind.oneofs if one.name in refs | choices for field in one.fields}
    expected = ({field.name for field in kind.fields} - inside) | refs | choices
    of_record = {one.metadata.get("wire", one.name) for one in fields(record)}
    flags = {one.metadata.get("present", "") for one in fields(record)}
    assert of_record - flags - {field for kind_, field in NOT_SENT if kind_ == name} == expected - {
        field for kind_, field in NOT_SENT if kind_ == name
    }


def _lost(before: Message, after: Message, path: str = "") -> Iterator[str]:
    """The paths of fields that are set in one message and differ in the other; an empty message equals an unset one."""
    for field, value in before.ListFields():
        other, where = getattr(after, field.name), f"{path}.{field.name}"
        is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
        if field.message_type is None and field.is_repeated:
            yield from [where] if sorted(other) != sorted(value) else []
        elif field.message_type is None or is_map or field.message_type.full_name in OWN:
            yield from [where] if other != value else []
        elif field.is_repeated:
            yield from [where] if len(other) != len(value) else []
            for one, two in zip(value, other, strict=False):
                yield from _lost(one, two, where)
        else:
            yield from _lost(value, other, where)


@pytest.mark.parametrize("name", RECORDS)
def test_every_field_goes_there_and_back(name: str) -> None:
    """No field is lost or added in either direction: a message becomes a record, and the record the same message."""

    @settings(max_examples=20, deadline=None)
    @given(_messages(DESCRIPTORS[name]))
    def check(message: Message) -> None:
        record = to_record(message, _record_of(name))
        again = to_message(record, type(message))
        assert to_record(again, _record_of(name)) == record
        assert not list(_lost(message, again))

    check()


def test_a_request_is_checked_as_a_whole() -> None:
    """All invalid fields are reported by their paths, each once, including those that cannot be read."""
    request = pb.ListPipelinesRequest(page_size=-1, order_by="x", namespace="A!", tags={"a.b": "x"})
    request.created_after.seconds = 10**15
    with pytest.raises(InvalidFieldError) as caught:
        read_request(request, ListPipelinesRequest, prefix="p.")
    named = {"p.page_size", "p.order_by", "p.namespace", "p.tags", "p.created_after"}
    assert {one.field for one in caught.value.violations} == named
    with pytest.raises(InvalidFieldError, match="storage_state"):
        read_request(experiment_pb2.ListExperimentsRequest(storage_state=9), ListExperimentsRequest)  # type: ignore[arg-type]


def wire_value(value: object) -> Value:
    """Serializes a JSON value."""
    return json_format.Parse(json.dumps(value), Value())


@pytest.mark.parametrize(
    "value",
    [None, True, False, 7, -3, 0.5, "7", "세계", [], [1, 2, 3], {"a": 1, "b": {"c": [None, "x", 1.5]}}],
    ids=str,
)
def test_a_value_comes_back_as_it_was(value: Json) -> None:
    """Whole numbers are ints again, at any depth, and a string of digits stays a string."""
    got = json_value(wire_value(value))
    assert (got, repr(got)) == (value, repr(value))


@pytest.mark.parametrize("number", [float("inf"), float("-inf")])
def test_an_infinite_number_stays_a_float(number: float) -> None:
    """Infinity is not a whole number, and is passed on unchanged."""
    assert json_value(Value(number_value=number)) == number


def test_a_double_default_stays_a_float() -> None:
    """The default 1.0 of a NUMBER_DOUBLE does not become 1, that of a NUMBER_INTEGER does; true is not a number."""
    kinds = [pb.PARAMETER_TYPE_NUMBER_DOUBLE, pb.PARAMETER_TYPE_NUMBER_INTEGER]
    defaults = [_parameter(pb.Parameter(name="x", type=kind, default_value=wire_value(1.0))).default for kind in kinds]
    assert [repr(default) for default in defaults] == ["1.0", "1"]
    odd = pb.Parameter(name="x", type=pb.PARAMETER_TYPE_NUMBER_DOUBLE, default_value=wire_value(True))
    assert _parameter(odd).default is True


def test_a_null_default_is_not_no_default() -> None:
    """A default of null is distinguished from an unset one."""
    null = pb.Parameter(name="x", default_value=wire_value(None))
    assert (_parameter(null).has_default, _parameter(pb.Parameter(name="x")).has_default) == (
        True,
        False,
    )


def test_every_parameter_type_has_its_model() -> None:
    """Only the unknown parameter type of the contract is read as unknown."""
    unknown = [
        number
        for number in pb.ParameterType.values()
        if _parameter(pb.Parameter(type=number)).type is ParameterType.UNKNOWN
    ]
    assert unknown == [pb.PARAMETER_TYPE_UNSPECIFIED]


def test_every_format_has_its_model() -> None:
    """Only the unknown format of the contract is read as unknown."""
    unknown = [
        number
        for number in pb.PipelineFormat.values()
        if to_record(pb.PipelineSpecSummary(format=number), SpecSummary).format is PipelineFormat.UNKNOWN
    ]
    assert unknown == [pb.PIPELINE_FORMAT_UNSPECIFIED]


def test_a_pipeline_in_full() -> None:
    """Every field is in the record; times are in UTC."""
    spec = pb.PipelineSpecSummary(
        format=pb.PIPELINE_FORMAT_KFP_V2,
        name="in-file",
        description="설명",
        schema_version="2.1.0",
        sdk_version="kfp-2.17.0",
        unknown_parts=["root.x"],
        parameters=[pb.Parameter(name="s", type=pb.PARAMETER_TYPE_STRING, declared_type="STRING", optional=True)],
    )
    version = pb.PipelineVersion(
        pipeline_version_id="v", pipeline_id="p", name="2", sha256="ab", tags={"k": "v"}, spec=spec
    )
    got = _pipeline(
        pb.Pipeline(
            pipeline_id="p",
            name="train",
            created_at=Timestamp(seconds=1_760_000_000),
            namespace="team-a",
            latest_version=version,
            version_count=0,
        )
    )
    assert (got.pipeline_id, got.name, got.namespace, got.version_count) == ("p", "train", "team-a", 0)
    assert got.created_at == datetime.fromtimestamp(1_760_000_000, timezone.utc)
    latest = got.latest_version
    assert latest is not None
    assert (latest.name, latest.sha256, latest.tags, latest.created_at) == ("2", "ab", {"k": "v"}, None)
    assert latest.spec == SpecSummary(
        format=PipelineFormat.KFP_V2,
        name="in-file",
        description="설명",
        parameters=(Parameter("s", ParameterType.STRING, declared_type="STRING", optional=True),),
        schema_version="2.1.0",
        sdk_version="kfp-2.17.0",
        unknown_parts=("root.x",),
    )


def test_a_basic_pipeline_has_no_more_than_was_sent() -> None:
    """A field that is not set in the message is None in the record, not empty or zero."""
    got = _pipeline(pb.Pipeline(pipeline_id="p", name="train"))
    assert (got.created_at, got.latest_version, got.version_count) == (None, None, None)


def test_a_moment_of_another_zone_is_sent_as_the_same_moment() -> None:
    """A time zone is converted, not dropped."""
    seoul = datetime(2026, 1, 1, 9, tzinfo=timezone(timedelta(hours=9)))
    sent = timestamp(seoul)
    assert sent.ToDatetime(timezone.utc) == datetime(2026, 1, 1, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    "moment",
    [
        datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=9))),
        datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-9))),
    ],
    ids=str,
)
def test_a_moment_that_the_wire_cannot_hold_is_an_invalid_field(moment: datetime) -> None:
    """A time outside the years 1 to 9999 UTC is rejected as the adapter would reject it."""
    with pytest.raises(InvalidFieldError, match="created_after: must lie in the years 1 to 9999 UTC"):
        to_message(ListPipelinesRequest(created_after=moment), pb.ListPipelinesRequest)
