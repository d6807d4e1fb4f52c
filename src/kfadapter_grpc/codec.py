"""Converts records to protobuf messages and JSON, and back, by the records' annotations and the messages' descriptors.

A record has the fields of its message by their names. Exceptions stand in the metadata of its fields: `wire` names the
message's field, `present` the record's field that says whether that is set. A field of a record that is named as a
`oneof` holds one of its messages, or, if it is a oneof of texts, names something by an id or by a name (`PipelineRef`).
A JSON value in a `oneof` counts where nothing else is set. An empty `namespace` of a request is the default one.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeVar, cast, get_args, get_origin, get_type_hints

from google.protobuf.message_factory import GetMessageClass
from google.protobuf.struct_pb2 import Struct, Value

from kfadapter_grpc import well_known
from kfadapter_grpc.contract.checks import Violations
from kfadapter_grpc.contract.errors import InvalidFieldError
from kfadapter_grpc.contract.listing import Page
from kfadapter_grpc.contract.values import Path, Replacements, path_text
from kfadapter_grpc.well_known import WELL_KNOWN

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from dataclasses import Field

    from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, OneofDescriptor
    from google.protobuf.message import Message

    from kfadapter_grpc.contract.checks import Check
    from kfadapter_grpc.contract.spec import Json

M = TypeVar("M", bound="Message")
R = TypeVar("R")
_SMALL_BEFORE_LARGE = re.compile(r"(?<=[a-z])(?=[A-Z])")


def to_message(record: Any, kind: type[M], replaced: Replacements | None = None) -> M:  # noqa: ANN401 - any record
    """Makes a message; what a google.protobuf.Value cannot carry is replaced and noted in `replaced`, by its path.

    Raises:
        InvalidFieldError: A time lies outside of the years 1 to 9999, or something is named twice.
    """
    return _message(record, kind, None, Replacements() if replaced is None else replaced)


def to_record(message: Message, kind: type[R]) -> R:
    """Makes a record of a message."""
    return _record(message, kind, None, "")


def to_page(message: Message, kind: type[R]) -> Page[R]:
    """Makes a page of records of the answer of a List, whose first field holds them."""
    answer = cast("Any", message)
    items = tuple(to_record(item, kind) for item in getattr(answer, message.DESCRIPTOR.fields[0].name))
    counted = "total_size" in message.DESCRIPTOR.fields_by_name and answer.HasField("total_size")
    return Page(items, answer.next_page_token, answer.total_size if counted else None)


def read_request(message: Message, kind: type[R], default_namespace: str = "", prefix: str = "") -> R:
    """Makes the record of a request and checks it; `prefix` stands before the paths of fields.

    Raises:
        InvalidFieldError: Fields are wrong; all of them are named.
    """
    checks = Violations(default_namespace)
    made = _record(message, kind, checks, prefix)
    checks.raise_any()
    return made


# --- how the fields of a record are converted -----------------------------------------------------------------------


class _Unit(NamedTuple):
    """How a field of a record is put into the arguments of a message, and of a message into those of a record."""

    put: Callable[[Any, dict[str, Any], Path, Replacements], None]
    get: Callable[[Any, dict[str, Any], Violations | None, str], None]


def _message(record: Any, kind: type[M], path: Path, replaced: Replacements) -> M:  # noqa: ANN401 - any record
    made: dict[str, Any] = {}
    for unit in _units(kind.DESCRIPTOR, type(record)):
        unit.put(record, made, path, replaced)
    return kind(**made)


def _record(message: Message, kind: type[R], checks: Violations | None, prefix: str) -> R:
    made: dict[str, Any] = {}
    for unit in _units(message.DESCRIPTOR, kind):
        unit.get(message, made, checks, prefix)
    record = kind(**made)
    if checks is not None:
        checks.check_record(record, prefix)
    return record


def _make_units(descriptor: Descriptor, record: type[Any]) -> tuple[_Unit, ...]:
    hints = get_type_hints(record, include_extras=True)
    found = []
    for one in fields(record):
        wire, (hint, checks) = one.metadata.get("wire", one.name), _annotated(hints[one.name])
        if (field := descriptor.fields_by_name.get(wire)) is not None:
            in_oneof = field.message_type is Value.DESCRIPTOR and field.containing_oneof
            found.append(_value_unit(field, one, in_oneof) if in_oneof else _field_unit(field, one, hint, checks))
        elif wire in descriptor.oneofs_by_name:
            oneof = descriptor.oneofs_by_name[wire]
            is_text = oneof.fields[0].message_type is None
            found.append((_name_unit if is_text else _record_unit)(oneof, one, hint))
    return tuple(found)


_units = cast("Callable[[Any, type[Any]], tuple[_Unit, ...]]", cache(_make_units))


def _field_unit(wire: FieldDescriptor, of: Field[Any], hint: Any, checks: Sequence[Check]) -> _Unit:  # noqa: ANN401
    name, attribute, (convert, read) = wire.name, of.name, _converters(wire, hint)
    present = of.metadata.get("present", "")
    step = "" if wire.containing_oneof and not wire.containing_oneof.name.startswith("_") else f".{name}"
    leaves_out_empty = wire.message_type is Struct.DESCRIPTOR or not (wire.has_presence or wire.enum_type)
    may_be_unset = wire.has_presence and type(None) in get_args(hint)
    is_deprecated = wire.GetOptions().deprecated  # another field has the same, and what was replaced is noted there

    def put(record: Any, made: dict[str, Any], path: Path, replaced: Replacements) -> None:  # noqa: ANN401
        item = getattr(record, attribute)
        if getattr(record, present) if present else item or (item is not None and not leaves_out_empty):
            made[name] = convert(item, (path, step), Replacements() if is_deprecated else replaced)

    def get(message: Any, made: dict[str, Any], checked: Violations | None, prefix: str) -> None:  # noqa: ANN401
        is_set = not may_be_unset or message.HasField(name)
        if present:
            made[present] = is_set
        if is_set:
            item = made[attribute] = read(getattr(message, name), checked, prefix + name)
            if checked is not None:
                checked.check_field(prefix + name, item, checks)
                if name == "namespace" and not item:
                    made[attribute] = checked.namespace
        elif not present:
            made[attribute] = None

    return _Unit(put, get)


def _value_unit(wire: FieldDescriptor, of: Field[Any], oneof: OneofDescriptor) -> _Unit:
    """A JSON value in a oneof counts where nothing else is set; it may be null."""
    others = [field.name for field in oneof.fields if field is not wire]

    def put(record: Any, made: dict[str, Any], path: Path, replaced: Replacements) -> None:  # noqa: ANN401
        if all(getattr(record, other) is None for other in others):
            made[wire.name] = well_known.value(getattr(record, of.name), path, replaced)

    def get(message: Any, made: dict[str, Any], _: Violations | None, __: str) -> None:  # noqa: ANN401
        if message.WhichOneof(oneof.name) == wire.name:
            made[of.name] = well_known.json_value(getattr(message, wire.name))

    return _Unit(put, get)


def _name_unit(oneof: OneofDescriptor, of: Field[Any], hint: Any) -> _Unit:  # noqa: ANN401 - an annotation
    """A oneof of texts names something, by an id or by a name, in the namespace of the request."""
    (ref,) = _records_of(hint)
    hints = get_type_hints(ref, include_extras=True)
    has_namespace = "namespace" in hints
    names = [field.name for field in oneof.fields]
    attributes = dict(zip(names, [one.name for one in fields(ref)], strict=False))
    checks = {name: _annotated(hints[attribute])[1] for name, attribute in attributes.items()}
    required = of.default is MISSING and of.default_factory is MISSING
    fault = f"set {' or '.join(names)}, not empty, {f'to name the {oneof.name}' if required else 'or leave both out'}"

    def put(record: Any, made: dict[str, Any], path: Path, _: Replacements) -> None:  # noqa: ANN401
        item = getattr(record, of.name)
        given = {name: text for name, attribute in attributes.items() if item and (text := getattr(item, attribute))}
        if len(given) > 1:
            raise InvalidFieldError.of(path_text((path, f".{oneof.name}")), f"give only one of {' and '.join(given)}")
        made.update(given)

    def get(message: Any, made: dict[str, Any], checked: Violations | None, prefix: str) -> None:  # noqa: ANN401
        which = message.WhichOneof(oneof.name)
        text = getattr(message, which) if which else ""
        if which is None and not required:
            return
        namespace = {"namespace": message.namespace or (checked.namespace if checked else "")} if has_namespace else {}
        made[of.name] = ref(**({attributes[which]: text} if which else {}), **namespace)
        if checked is not None and text:
            checked.check_field(prefix + which, text, checks[which])
        elif checked is not None:
            checked.add(prefix + oneof.name, fault)

    return _Unit(put, get)


def _record_unit(oneof: OneofDescriptor, of: Field[Any], hint: Any) -> _Unit:  # noqa: ANN401 - an annotation
    """A oneof of messages holds a record of one of them."""
    records = {one.__name__: one for one in _records_of(hint)}
    by_record = {records[_type_of(field).name]: field for field in oneof.fields}
    required = of.default is MISSING and of.default_factory is MISSING
    fault = f"set {' or '.join(field.name for field in oneof.fields)}"

    def put(record: Any, made: dict[str, Any], path: Path, replaced: Replacements) -> None:  # noqa: ANN401
        item = getattr(record, of.name)
        if item is not None:
            field = by_record[type(item)]
            made[field.name] = _message(item, GetMessageClass(_type_of(field)), (path, f".{field.name}"), replaced)

    def get(message: Any, made: dict[str, Any], checked: Violations | None, prefix: str) -> None:  # noqa: ANN401
        which = message.WhichOneof(oneof.name)
        if which:
            item = getattr(message, which)
            made[of.name] = _record(item, records[item.DESCRIPTOR.name], checked, f"{prefix}{which}.")
            return
        made[of.name] = None
        if checked is not None and required:
            checked.add(prefix + oneof.name, fault)

    return _Unit(put, get)


def _converters(wire: FieldDescriptor, hint: Any) -> tuple[Any, Any]:  # noqa: ANN401 - an annotation
    """How a value is put into a field, and read from it: with its path, and what notes replacements or violations."""
    kind = wire.message_type
    if kind is not None and kind.GetOptions().map_entry:
        return lambda item, _, __: dict(item), lambda item, _, __: dict(item)
    if not wire.is_repeated:
        return _of_one(wire, hint)
    put, get = _of_one(wire, get_args(hint)[0])
    if get_origin(hint) is frozenset:
        return (
            lambda items, path, replaced: sorted(put(item, path, replaced) for item in items),
            lambda items, checks, path: frozenset(get(item, checks, path) for item in items),
        )
    return (
        lambda items, path, replaced: [put(item, _of_item(path, item), replaced) for item in items],
        lambda items, checks, path: tuple(get(item, checks, path) for item in items),
    )


def _of_one(wire: FieldDescriptor, hint: Any) -> tuple[Any, Any]:  # noqa: ANN401 - an annotation
    kind = wire.message_type
    if wire.enum_type is not None:
        return _enum_converters(wire.enum_type, hint)
    if kind is None:
        return lambda item, _, __: item, lambda item, _, __: item
    if kind in WELL_KNOWN:
        return WELL_KNOWN[kind]
    (record,) = _records_of(hint)
    made = GetMessageClass(kind)
    return (
        lambda item, path, replaced: _message(item, made, path, replaced),
        lambda item, checks, path: _record(item, record, checks, f"{path}."),
    )


def _enum_converters(descriptor: EnumDescriptor, kind: Any) -> tuple[Any, Any]:  # noqa: ANN401 - an annotation
    numbers = _numbers(descriptor, kind)
    by_number = {number: member for member, number in numbers.items()}
    first = by_number.setdefault(0, next(iter(numbers)))
    fault = f"is not one of {', '.join(descriptor.values_by_number[one].name for one in numbers.values())}"

    def get(number: int, checks: Violations | None, path: str) -> Any:  # noqa: ANN401 - a member
        if checks is not None and number not in by_number:
            checks.add(path, f"{number} {fault}")
        return by_number.get(number, first)

    return lambda item, _, __: numbers[item], get


@cache
def _numbers(descriptor: EnumDescriptor, kind: type[enum.Enum | bool]) -> dict[Any, int]:
    """The numbers of an enum's members; UNKNOWN is UNSPECIFIED on the wire. A bool stands for values 1 and 2."""
    if kind is bool:
        return {False: 1, True: 2}
    prefix = _SMALL_BEFORE_LARGE.sub("_", descriptor.name).upper()
    members = list(kind)
    names = ["UNSPECIFIED" if one.name == "UNKNOWN" else one.name for one in members]
    by_name = descriptor.values_by_name
    return {member: by_name[f"{prefix}_{name}"].number for member, name in zip(members, names, strict=True)}


def _annotated(hint: Any) -> tuple[Any, Sequence[Check]]:  # noqa: ANN401 - an annotation
    """An annotation without its checks, and the checks."""
    return (hint.__origin__, hint.__metadata__) if get_origin(hint) is Annotated else (hint, ())


def _records_of(hint: Any) -> list[Any]:  # noqa: ANN401 - an annotation
    """The records that an annotation names."""
    return [one for one in (hint, *get_args(hint)) if is_dataclass(one)]


def _type_of(field: FieldDescriptor) -> Descriptor:
    return cast("Descriptor", field.message_type)


def _of_item(path: Path, item: Any) -> Path:  # noqa: ANN401 - a record, or a plain value
    name = getattr(item, "name", "")
    return (path, f".{name}") if isinstance(name, str) and name else path


# --- JSON -----------------------------------------------------------------------------------------------------------


def to_json(record: object) -> dict[str, Json]:
    """Makes the JSON object of a record: the proto's field names, every key always there, null for what is unknown.

    A key that says only whether another is set is left out, and so is what is not set then. A record that JSON shows in
    another way has a method `in_json` that changes the object.
    """
    of = fields(cast("Any", record))
    made = {
        one.metadata.get("wire", one.name): _json(getattr(record, one.name))
        for one in of
        if getattr(record, one.metadata.get("present", ""), True)
    }
    for one in of:
        made.pop(one.metadata.get("present", ""), None)
    change = getattr(record, "in_json", None)
    return cast("dict[str, Json]", change(made)) if change else made


def to_listed_json(record: object) -> dict[str, Json]:
    """Makes the JSON object of a record of a list: what lists leave out (`VIEW_BASIC`) is null, not empty."""
    return to_json(record) | dict.fromkeys(getattr(record, "NOT_LISTED", ()))


def json_moment(moment: datetime | None) -> str | None:
    """Writes a time, in UTC, to the second."""
    return moment.replace(microsecond=0, tzinfo=None).isoformat() + "Z" if moment else None


def _json(item: object) -> Json:
    if isinstance(item, datetime):
        return json_moment(item)
    if isinstance(item, timedelta):
        return int(item.total_seconds())
    if isinstance(item, enum.Enum):
        return cast("Json", item.value)
    if isinstance(item, tuple):
        return [_json(one) for one in item]
    if isinstance(item, Mapping):
        return dict(item)
    return to_json(item) if is_dataclass(item) else cast("Json", item)
