"""Converts records to protobuf messages and back, by the names of their fields and the messages' descriptors.

A record has the fields of its message by their names. Exceptions stand in the metadata of its dataclass fields: `wire`
names the message's field, `present` the record's field that says whether that is set. A `oneof` of messages is one
field of the record, with the name of the oneof; in a `oneof` of a message and a JSON value, the value counts where
there is no message.
"""

from __future__ import annotations

import re
from dataclasses import fields
from datetime import datetime, timezone
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import ParseDict
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from kfadapter.v1 import common_pb2, experiment_pb2, pipeline_pb2, recurring_run_pb2, run_pb2
from kfadapter_grpc.contract import experiments, listing, pipelines, recurring_runs, runs, spec
from kfadapter_grpc.contract.values import MAX_OBJECT_LEVELS, Path, Replacements, carried

if TYPE_CHECKING:
    import enum
    from collections.abc import Callable, Mapping
    from datetime import timedelta

    from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, OneofDescriptor
    from google.protobuf.message import Message

    from kfadapter_grpc.contract.spec import Json

M = TypeVar("M", bound="Message")
R = TypeVar("R")
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_RECORDS: dict[str, type[Any]] = {
    message.DESCRIPTOR.full_name: record
    for message, record in (
        (pipeline_pb2.Pipeline, pipelines.Pipeline),
        (pipeline_pb2.PipelineVersion, pipelines.PipelineVersion),
        (pipeline_pb2.PipelineSpecSummary, spec.SpecSummary),
        (pipeline_pb2.Parameter, spec.Parameter),
        (pipeline_pb2.Artifact, spec.Artifact),
        (pipeline_pb2.Task, spec.Task),
        (pipeline_pb2.TaskResources, spec.TaskResources),
        (pipeline_pb2.KubernetesExtra, spec.KubernetesExtra),
        (pipeline_pb2.DeletePipelineResponse, pipelines.DeleteResult),
        (pipeline_pb2.DeletePipelineVersionResponse, pipelines.DeleteVersionResult),
        (run_pb2.Run, runs.Run),
        (run_pb2.RunTask, runs.RunTask),
        (run_pb2.RunStateChange, runs.RunStateChange),
        (run_pb2.RunOutput, runs.RunOutput),
        (run_pb2.RunArtifact, runs.RunArtifact),
        (experiment_pb2.Experiment, experiments.Experiment),
        (recurring_run_pb2.RecurringRun, recurring_runs.RecurringRun),
        (recurring_run_pb2.CronSchedule, recurring_runs.CronSchedule),
        (recurring_run_pb2.IntervalSchedule, recurring_runs.IntervalSchedule),
    )
}
_ENUM_TYPES: tuple[tuple[EnumDescriptor, type[enum.Enum]], ...] = (
    (run_pb2.RunState.DESCRIPTOR, runs.RunState),
    (common_pb2.StorageState.DESCRIPTOR, listing.StorageState),
    (common_pb2.View.DESCRIPTOR, listing.View),
    (pipeline_pb2.TaskKind.DESCRIPTOR, spec.TaskKind),
    (pipeline_pb2.ParameterType.DESCRIPTOR, spec.ParameterType),
    (pipeline_pb2.PipelineFormat.DESCRIPTOR, spec.PipelineFormat),
    (pipeline_pb2.IfExists.DESCRIPTOR, pipelines.IfExists),
)
_ENUMS = {descriptor.full_name: kind for descriptor, kind in _ENUM_TYPES}
_SMALL_BEFORE_LARGE = re.compile(r"(?<=[a-z])(?=[A-Z])")


def to_message(record: Any, kind: type[M], replaced: Replacements | None = None) -> M:  # noqa: ANN401 - any record
    """Makes a message; what a google.protobuf.Value cannot carry is replaced and noted in `replaced`, by its path."""
    return _message(record, kind, None, Replacements() if replaced is None else replaced)


def to_record(message: Message, kind: type[R]) -> R:
    """Makes the record of a message."""
    found = _record(message)
    assert isinstance(found, kind)  # noqa: S101 - _RECORDS says so
    return found


def to_page(message: Message, kind: type[R]) -> listing.Page[R]:
    """Makes a page of records of the answer of a List, whose first field holds them."""
    answer = cast("Any", message)
    items = tuple(to_record(item, kind) for item in getattr(answer, message.DESCRIPTOR.fields[0].name))
    return listing.Page(items, answer.next_page_token, answer.total_size if answer.HasField("total_size") else None)


def enum_number(member: enum.Enum) -> Any:  # noqa: ANN401 - the stubs have a type for each enum
    """Returns the number of an enum's member on the wire."""
    return _numbers(type(member))[member]


def timestamp(moment: datetime | None) -> Timestamp | None:
    """Makes a time; None if there is none."""
    if moment is None:
        return None
    since = moment - _EPOCH
    return Timestamp(seconds=since.days * 86400 + since.seconds, nanos=since.microseconds * 1000)


def duration(length: timedelta) -> Duration:
    """Makes a length of time."""
    message = Duration()
    message.FromTimedelta(length)
    return message


def json_value(value: Value) -> Json:
    """Reads a JSON value; whole numbers, which the wire has as 7.0, are ints again."""
    kind = value.WhichOneof("kind")
    if kind == "number_value":
        number = value.number_value
        return int(number) if number.is_integer() else number
    if kind == "list_value":
        return [json_value(item) for item in value.list_value.values]
    if kind == "struct_value":
        return json_object(value.struct_value)
    if kind == "bool_value":
        return value.bool_value
    return value.string_value if kind == "string_value" else None


def json_object(struct: Struct) -> dict[str, Json]:
    """Reads a JSON object, sorted by key: a map on the wire has no order."""
    return {key: json_value(struct.fields[key]) for key in sorted(struct.fields)}


def value(json: Json, path: Path = None, replaced: Replacements | None = None) -> Value:
    """Makes a JSON value; what it cannot carry is replaced and noted."""
    found = carried(json, path, Replacements() if replaced is None else replaced)
    return ParseDict(found, Value())  # type: ignore[arg-type] # its stub knows objects only; a Value takes any JSON


def struct(json: Mapping[str, Json], path: Path = None, replaced: Replacements | None = None) -> Struct:
    """Makes a JSON object; what it cannot carry is replaced and noted."""
    noted = Replacements() if replaced is None else replaced
    return ParseDict(cast("dict[str, Json]", carried(dict(json), path, noted, MAX_OBJECT_LEVELS)), Struct())


# --- how the fields of a message are converted ----------------------------------------------------------------------


class _Unit(NamedTuple):
    """How a part of a record is put into the arguments of a message, and of a message into those of a record."""

    put: Callable[[Any, dict[str, Any], Path, Replacements], None]
    get: Callable[[Any, dict[str, Any]], None]


def _message(record: Any, kind: type[M], path: Path, replaced: Replacements) -> M:  # noqa: ANN401 - any record
    made: dict[str, Any] = {}
    for unit in _units(kind.DESCRIPTOR):
        unit.put(record, made, path, replaced)
    return kind(**made)


def _record(message: Message) -> Any:  # noqa: ANN401 - any record
    made: dict[str, Any] = {}
    for unit in _units(message.DESCRIPTOR):
        unit.get(message, made)
    return _RECORDS[message.DESCRIPTOR.full_name](**made)


@cache
def _units(descriptor: Descriptor) -> tuple[_Unit, ...]:
    record = _RECORDS[descriptor.full_name]
    attributes = {one.metadata.get("wire", one.name): one for one in fields(record)}
    found = [
        _records_unit(oneof) if oneof.name in attributes else _value_unit(oneof)
        for oneof in descriptor.oneofs
        if not oneof.name.startswith("_")  # an optional field is a oneof of its own
    ]
    for field in descriptor.fields:
        if field.containing_oneof is None or field.containing_oneof.name.startswith("_"):
            attribute = attributes[field.name]
            found.append(_plain_unit(field, attribute.name, attribute.metadata.get("present", "")))
    return tuple(found)


def _plain_unit(field: FieldDescriptor, attribute: str, present: str) -> _Unit:
    name, (convert, read) = field.name, _converters(field)
    is_struct = field.message_type is Struct.DESCRIPTOR
    may_be_unset = field.has_presence and not is_struct

    def put(record: Any, made: dict[str, Any], path: Path, replaced: Replacements) -> None:  # noqa: ANN401
        item = getattr(record, attribute)
        if getattr(record, present) if present else item is not None and not (is_struct and not item):
            made[name] = convert(item, (path, f".{name}"), replaced)

    def get(message: Any, made: dict[str, Any]) -> None:  # noqa: ANN401
        is_set = not may_be_unset or message.HasField(name)
        if present:
            made[present] = is_set
        if is_set:
            made[attribute] = read(getattr(message, name))
        elif not present:
            made[attribute] = None

    return _Unit(put, get)


def _records_unit(oneof: OneofDescriptor) -> _Unit:
    """A oneof of messages is one field of the record, named as the oneof."""
    by_record = {_RECORDS[_type_of(field).full_name]: field for field in oneof.fields}

    def put(record: Any, made: dict[str, Any], path: Path, replaced: Replacements) -> None:  # noqa: ANN401
        item = getattr(record, oneof.name)
        if item is not None:
            field = by_record[type(item)]
            made[field.name] = _message(item, GetMessageClass(_type_of(field)), (path, f".{field.name}"), replaced)

    def get(message: Any, made: dict[str, Any]) -> None:  # noqa: ANN401
        which = message.WhichOneof(oneof.name)
        made[oneof.name] = _record(getattr(message, which)) if which else None

    return _Unit(put, get)


def _value_unit(oneof: OneofDescriptor) -> _Unit:
    """Of a message and a JSON value, the value counts where there is no message; it may be null."""
    (json,) = (field for field in oneof.fields if field.message_type is Value.DESCRIPTOR)
    (other,) = (field for field in oneof.fields if field is not json)

    def put(record: Any, made: dict[str, Any], path: Path, replaced: Replacements) -> None:  # noqa: ANN401
        item = getattr(record, other.name)
        if item is None:
            made[json.name] = value(getattr(record, json.name), path, replaced)
        else:
            made[other.name] = _message(item, GetMessageClass(_type_of(other)), path, replaced)

    def get(message: Any, made: dict[str, Any]) -> None:  # noqa: ANN401
        if message.WhichOneof(oneof.name) == other.name:
            made[other.name] = _record(getattr(message, other.name))
        else:
            made[json.name] = json_value(getattr(message, json.name))

    return _Unit(put, get)


def _converters(field: FieldDescriptor) -> tuple[Callable[[Any, Path, Replacements], Any], Callable[[Any], Any]]:
    """How a value is put into a field, and read from it."""
    kind = field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        return lambda item, _, __: dict(item), dict
    put, get = _of_one(field)
    if not field.is_repeated:
        return put, get
    return (
        lambda items, path, replaced: [put(item, _of_item(path, item), replaced) for item in items],
        lambda items: tuple(map(get, items)),
    )


def _of_one(field: FieldDescriptor) -> tuple[Callable[[Any, Path, Replacements], Any], Callable[[Any], Any]]:
    kind = field.message_type
    if field.enum_type is not None:
        members = _ENUMS[field.enum_type.full_name]
        numbers, by_number = _numbers(members), {number: member for member, number in _numbers(members).items()}
        unknown = by_number.get(0)
        return lambda item, _, __: numbers[item], lambda number: by_number.get(number, unknown)
    if kind is None:
        return lambda item, _, __: item, lambda item: item
    if kind.full_name in _OWN:
        return _OWN[kind.full_name]
    made = GetMessageClass(kind)
    return lambda item, path, replaced: _message(item, made, path, replaced), _record


def _type_of(field: FieldDescriptor) -> Descriptor:
    return cast("Descriptor", field.message_type)


def _of_item(path: Path, item: Any) -> Path:  # noqa: ANN401 - a record, or a plain value
    name = getattr(item, "name", "")
    return (path, f".{name}") if isinstance(name, str) and name else path


@cache
def _numbers(members: type[enum.Enum]) -> dict[enum.Enum, int]:
    """The numbers of an enum's members; UNKNOWN is UNSPECIFIED on the wire."""
    (descriptor,) = (one for one, kind in _ENUM_TYPES if kind is members)
    prefix = _SMALL_BEFORE_LARGE.sub("_", descriptor.name).upper()
    by_name = descriptor.values_by_name
    return {
        member: by_name[f"{prefix}_{'UNSPECIFIED' if member.name == 'UNKNOWN' else member.name}"].number
        for member in members
    }


_OWN: dict[str, tuple[Callable[[Any, Path, Replacements], Any], Callable[[Any], Any]]] = {
    "google.protobuf.Timestamp": (lambda item, _, __: timestamp(item), lambda item: item.ToDatetime(timezone.utc)),
    "google.protobuf.Duration": (lambda item, _, __: duration(item), lambda item: item.ToTimedelta()),
    "google.protobuf.Struct": (struct, json_object),
    "google.protobuf.Value": (value, json_value),
}
