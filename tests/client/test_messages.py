from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest
from google.protobuf import json_format
from google.protobuf.struct_pb2 import Value
from google.protobuf.timestamp_pb2 import Timestamp

from kfadapter.v1 import common_pb2
from kfadapter.v1 import pipeline_pb2 as pb
from kfadapter_grpc.client import messages
from kfadapter_grpc.domain.errors import InvalidFieldError
from kfadapter_grpc.domain.models import IfExists, View
from kfadapter_grpc.domain.spec import Parameter, ParameterType, PipelineFormat, SpecSummary

if TYPE_CHECKING:
    from kfadapter_grpc.domain.spec import Json


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
    got = messages.json_value(wire_value(value))
    assert (got, repr(got)) == (value, repr(value))


@pytest.mark.parametrize("number", [float("inf"), float("-inf")])
def test_an_infinite_number_stays_a_float(number: float) -> None:
    """Infinity is no whole number, and is passed on as it is."""
    assert messages.json_value(Value(number_value=number)) == number


def test_a_double_default_stays_a_float() -> None:
    """The default 1.0 of a NUMBER_DOUBLE is not turned into 1, that of a NUMBER_INTEGER is; true is no number."""
    kinds = [pb.PARAMETER_TYPE_NUMBER_DOUBLE, pb.PARAMETER_TYPE_NUMBER_INTEGER]
    defaults = [
        messages.parameter(pb.Parameter(name="x", type=kind, default_value=wire_value(1.0))).default for kind in kinds
    ]
    assert [repr(default) for default in defaults] == ["1.0", "1"]
    odd = pb.Parameter(name="x", type=pb.PARAMETER_TYPE_NUMBER_DOUBLE, default_value=wire_value(True))
    assert messages.parameter(odd).default is True


def test_a_null_default_is_not_no_default() -> None:
    """A default of null is told from the absence of one."""
    null = pb.Parameter(name="x", default_value=wire_value(None))
    assert (messages.parameter(null).has_default, messages.parameter(pb.Parameter(name="x")).has_default) == (
        True,
        False,
    )


def test_every_parameter_type_has_its_model() -> None:
    """No type of the contract is read as unknown but the unknown one."""
    unknown = [
        number
        for number in pb.ParameterType.values()
        if messages.parameter(pb.Parameter(type=number)).type is ParameterType.UNKNOWN
    ]
    assert unknown == [pb.PARAMETER_TYPE_UNSPECIFIED]


def test_every_format_has_its_model() -> None:
    """No format of the contract is read as unknown but the unknown one."""
    unknown = [
        number
        for number in pb.PipelineFormat.values()
        if messages.spec_summary(pb.PipelineSpecSummary(format=number)).format is PipelineFormat.UNKNOWN
    ]
    assert unknown == [pb.PIPELINE_FORMAT_UNSPECIFIED]


def test_every_choice_can_be_sent() -> None:
    """Every view and every answer to an existing pipeline has its own value on the wire."""
    assert {messages.VIEWS[view] for view in View} == set(common_pb2.View.values()) - {0}
    assert {messages.IF_EXISTS[choice] for choice in IfExists} == set(pb.IfExists.values()) - {0}


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
    got = messages.pipeline(
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
    got = messages.pipeline(pb.Pipeline(pipeline_id="p", name="train"))
    assert (got.created_at, got.latest_version, got.version_count) == (None, None, None)


def test_a_moment_of_another_zone_is_sent_as_the_same_moment() -> None:
    """A time zone is converted, not dropped."""
    seoul = datetime(2026, 1, 1, 9, tzinfo=timezone(timedelta(hours=9)))
    sent = messages.timestamp(seoul)
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
        messages.timestamp(moment)
