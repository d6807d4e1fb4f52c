from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.descriptor_pool import Default
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from kfadapter.v1 import common_pb2, experiment_pb2, recurring_run_pb2, run_pb2
from kfadapter.v1 import pipeline_pb2 as pb
from kfadapter_grpc import codec
from kfadapter_grpc.client.messages import timestamp
from kfadapter_grpc.codec import enum_number, json_value, to_message, to_record
from kfadapter_grpc.contract.errors import InvalidFieldError
from kfadapter_grpc.contract.listing import View
from kfadapter_grpc.contract.pipelines import IfExists, Pipeline
from kfadapter_grpc.contract.spec import Parameter, ParameterType, PipelineFormat, SpecSummary

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor
    from google.protobuf.message import Message

    from kfadapter_grpc.contract.spec import Json

MESSAGES = sorted(codec._RECORDS)
"""The messages that are records."""
SHAPES = ("Request", "Response", "Event", "Ids", "Filter", "Changed", "Gone", "Heartbeat", "Metadata", "Info")
"""How the names of messages end that are no records: what is sent around them."""
OWN: dict[str, Message] = {
    "google.protobuf.Timestamp": Timestamp(seconds=1_760_000_000, nanos=5000),
    "google.protobuf.Duration": Duration(seconds=90),
    "google.protobuf.Struct": json_format.ParseDict({"a": [1, 2.5, None], "나": {"b": True}}, Struct()),
    "google.protobuf.Value": json_format.Parse('["x", 7]', Value()),
}


def _filled(kind: Descriptor, skipped: str = "", level: int = 3) -> Message:
    """A message with something in each of its fields, of each oneof in the last but the one skipped."""
    message = GetMessageClass(kind)()
    for field in kind.fields:
        if field.name != skipped and not (field.message_type is kind and not level):
            _fill(message, field, level)
    return message


def _fill(message: Message, field: FieldDescriptor, level: int) -> None:
    inner = field.message_type
    if inner is not None and inner.GetOptions().map_entry:
        getattr(message, field.name)["키"] = "value"
    elif inner is not None:
        item: Message = OWN.get(inner.full_name) or _filled(inner, level=level - 1)
        target = getattr(message, field.name)
        target.add().CopyFrom(item) if field.is_repeated else target.CopyFrom(item)
    else:
        number = field.enum_type.values[-1].number if field.enum_type else 3
        plain = {FieldDescriptor.TYPE_STRING: "글", FieldDescriptor.TYPE_BOOL: True}.get(field.type, number)
        getattr(message, field.name).append(plain) if field.is_repeated else setattr(message, field.name, plain)


def _parameter(message: pb.Parameter) -> Parameter:
    return to_record(message, Parameter)


def _pipeline(message: pb.Pipeline) -> Pipeline:
    return to_record(message, Pipeline)


def test_every_message_is_a_record_or_a_shape() -> None:
    """No message of the contract is forgotten."""
    files = (pb, run_pb2, experiment_pb2, recurring_run_pb2)
    names = [name for file in files for name in file.DESCRIPTOR.message_types_by_name if not name.endswith(SHAPES)]
    assert {f"kfadapter.v1.{name}" for name in names} == {one for one in MESSAGES if not one.endswith("Response")}


@pytest.mark.parametrize("name", MESSAGES)
def test_every_field_goes_there_and_back(name: str) -> None:
    """A record has all fields of its message, by name, type and presence; nothing is lost in either direction."""
    kind = Default().FindMessageTypeByName(name)
    oneofs = [field.name for one in kind.oneofs for field in one.fields if not one.name.startswith("_")]
    for skipped in ("", *oneofs):
        message = _filled(kind, skipped)
        record = to_record(message, codec._RECORDS[name])
        assert to_message(record, type(message)) == message
    nothing = to_record(GetMessageClass(kind)(), codec._RECORDS[name])
    assert to_record(to_message(nothing, GetMessageClass(kind)), codec._RECORDS[name]) == nothing


def wire_value(value: object) -> Value:
    """Puts a JSON value on the wire."""
    return json_format.Parse(json.dumps(value), Value())


@pytest.mark.parametrize(
    "value",
    [None, True, False, 7, -3, 0.5, "7", "세계", [], [1, 2, 3], {"a": 1, "b": {"c": [None, "x", 1.5]}}],
    ids=str,
)
def test_a_value_comes_back_as_it_was(value: Json) -> None:
    """Whole numbers are ints again, at any depth, and a text of digits stays a text."""
    got = json_value(wire_value(value))
    assert (got, repr(got)) == (value, repr(value))


@pytest.mark.parametrize("number", [float("inf"), float("-inf")])
def test_an_infinite_number_stays_a_float(number: float) -> None:
    """Infinity is no whole number, and is passed on as it is."""
    assert json_value(Value(number_value=number)) == number


def test_a_double_default_stays_a_float() -> None:
    """The default 1.0 of a NUMBER_DOUBLE is not turned into 1, that of a NUMBER_INTEGER is; true is no number."""
    kinds = [pb.PARAMETER_TYPE_NUMBER_DOUBLE, pb.PARAMETER_TYPE_NUMBER_INTEGER]
    defaults = [_parameter(pb.Parameter(name="x", type=kind, default_value=wire_value(1.0))).default for kind in kinds]
    assert [repr(default) for default in defaults] == ["1.0", "1"]
    odd = pb.Parameter(name="x", type=pb.PARAMETER_TYPE_NUMBER_DOUBLE, default_value=wire_value(True))
    assert _parameter(odd).default is True


def test_a_null_default_is_not_no_default() -> None:
    """A default of null is told from the absence of one."""
    null = pb.Parameter(name="x", default_value=wire_value(None))
    assert (_parameter(null).has_default, _parameter(pb.Parameter(name="x")).has_default) == (
        True,
        False,
    )


def test_every_parameter_type_has_its_model() -> None:
    """No type of the contract is read as unknown but the unknown one."""
    unknown = [
        number
        for number in pb.ParameterType.values()
        if _parameter(pb.Parameter(type=number)).type is ParameterType.UNKNOWN
    ]
    assert unknown == [pb.PARAMETER_TYPE_UNSPECIFIED]


def test_every_format_has_its_model() -> None:
    """No format of the contract is read as unknown but the unknown one."""
    unknown = [
        number
        for number in pb.PipelineFormat.values()
        if to_record(pb.PipelineSpecSummary(format=number), SpecSummary).format is PipelineFormat.UNKNOWN
    ]
    assert unknown == [pb.PIPELINE_FORMAT_UNSPECIFIED]


def test_every_choice_can_be_sent() -> None:
    """Every view and every answer to an existing pipeline has its own value on the wire."""
    assert {enum_number(view) for view in View} == set(common_pb2.View.values()) - {0}
    assert {enum_number(choice) for choice in IfExists} == set(pb.IfExists.values()) - {0}


def test_a_pipeline_in_full() -> None:
    """Every field arrives in the model; times are in UTC."""
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
    """What is not on the wire is None in the model, not empty or zero."""
    got = _pipeline(pb.Pipeline(pipeline_id="p", name="train"))
    assert (got.created_at, got.latest_version, got.version_count) == (None, None, None)


def test_a_moment_of_another_zone_is_sent_as_the_same_moment() -> None:
    """A time zone is converted, not dropped."""
    seoul = datetime(2026, 1, 1, 9, tzinfo=timezone(timedelta(hours=9)))
    sent = timestamp(seoul)
    assert sent is not None
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
    """A moment outside of the years 1 to 9999 UTC is refused as the adapter would refuse it."""
    with pytest.raises(InvalidFieldError, match="created_after: must lie in the years 1 to 9999 UTC"):
        timestamp(moment)
