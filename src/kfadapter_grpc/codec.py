"""Converts records to protobuf messages and JSON, and back, by the records' annotations and the messages' descriptors.

A record has the fields of its message by their names. Exceptions are in the metadata of its fields: `wire` names the
message's field, `present` the record's field that shows whether it is set, `first_of` a list that begins with it. A
field that is named as a `oneof` holds one of its messages, or, if it is a oneof of texts, identifies something by an id
or a name (`PipelineRef`). A JSON value in a `oneof` counts if nothing else is set. An empty `namespace` of a request
means the default one.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeVar, cast, get_args, get_origin, get_type_hints

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

    Raises InvalidFieldError for a time outside the years 1 to 9999, or if something is identified twice.
    """
    made = kind()
    _fill(record, made, None, Replacements() if replaced is None else replaced)
    return made


def to_record(message: Message, kind: type[R]) -> R:
    return _record(message, kind, None, "")


def to_page(message: Message, kind: type[R]) -> Page[R]:
    """Makes a page of records from the response of a List, whose first field contains them."""
    answer = cast("Any", message)
    items = tuple(to_record(item, kind) for item in getattr(answer, message.DESCRIPTOR.fields[0].name))
    counted = "total_size" in message.DESCRIPTOR.fields_by_name and answer.HasField("total_size")
    return Page(items, answer.next_page_token, answer.total_size if counted else None)


def read_request(message: Message, kind: type[R], default_namespace: str = "", prefix: str = "") -> R:
    """Makes the record of a request and checks it; `prefix` precedes the paths of fields.

    Raises InvalidFieldError with all fields that are invalid.
    """
    checks = Violations(default_namespace)
    made = _record(message, kind, checks, prefix)
    checks.raise_any()
    return made


# --- how the fields of a record are converted -----------------------------------------------------------------------


class _Unit(NamedTuple):
    """How to convert a field of a record into a message, and a field of a message to the arguments of a record.

    Attributes:
        get: Adds a message's field to the arguments of a record.
        put: Sets an item of a record in a message; None: unchanged, under its name.
        puts_empty: Whether an item that is false, zero or empty is set.
        puts_none: Whether None is an item, too.
    """

    attribute: str
    get: Callable[[Any, dict[str, Any], Violations | None, str], None]
    put: Callable[[Any, Any, Any, Path, Replacements], None] | None
    puts_empty: bool = False
    puts_none: bool = False


def _fill(record: Any, message: Message, path: Path, replaced: Replacements) -> None:  # noqa: ANN401 - any record
    for attribute, _, put, puts_empty, puts_none in _units(message.DESCRIPTOR, type(record)):
        item = getattr(record, attribute)
        if item or (puts_none if item is None else puts_empty):
            if put is None:
                setattr(message, attribute, item)
            else:
                put(item, record, message, path, replaced)


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
    last = {one.name for one in fields(record) if "first_of" in one.metadata}
    for one in fields(record):
        wire, (hint, checks) = one.metadata.get("wire", one.name), _annotated(hints[one.name])
        if (field := descriptor.fields_by_name.get(wire)) is not None:
            in_oneof = field.message_type is Value.DESCRIPTOR and field.containing_oneof
            found.append(_value_unit(field, one, in_oneof) if in_oneof else _field_unit(field, one, hint, checks))
        elif wire in descriptor.oneofs_by_name:
            oneof = descriptor.oneofs_by_name[wire]
            is_text = oneof.fields[0].message_type is None
            found.append((_name_unit if is_text else _record_unit)(oneof, one, hint))
    return tuple(sorted(found, key=lambda unit: unit.attribute in last))


_units = cast("Callable[[Any, type[Any]], tuple[_Unit, ...]]", cache(_make_units))


def _field_unit(wire: FieldDescriptor, of: Field[Any], hint: Any, checks: Sequence[Check]) -> _Unit:  # noqa: ANN401
    name, attribute, write, read = wire.name, of.name, _writer(wire, hint), _reader(wire, hint)
    present, first_of = of.metadata.get("present", ""), of.metadata.get("first_of", "")
    may_be_unset = wire.has_presence and type(None) in get_args(hint)
    is_deprecated = wire.GetOptions().deprecated  # another field has the same, and what was replaced is noted there

    def put(item: Any, record: Any, message: Any, path: Path, replaced: Replacements) -> None:  # noqa: ANN401
        if first_of and item is next(iter(getattr(record, first_of)), None):
            getattr(message, name).CopyFrom(getattr(message, first_of)[0])
        elif not present or getattr(record, present):
            write(item, record, message, path, Replacements() if is_deprecated else replaced)

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

    is_plain = not (wire.message_type or wire.enum_type or wire.is_repeated or present) and name == attribute
    puts_empty = wire.message_type is not Struct.DESCRIPTOR and bool(wire.has_presence or wire.enum_type)
    puts = None if is_plain else put if present or first_of or is_deprecated else write
    return _Unit(attribute, get, puts, puts_empty or bool(present), bool(present))


def _value_unit(wire: FieldDescriptor, of: Field[Any], oneof: OneofDescriptor) -> _Unit:
    """A JSON value in a oneof counts if nothing else is set; it may be null."""
    others = [field.name for field in oneof.fields if field is not wire]

    def put(item: Any, record: Any, message: Any, path: Path, replaced: Replacements) -> None:  # noqa: ANN401
        if all(getattr(record, other) is None for other in others):
            well_known.fill_value(item, getattr(message, wire.name), path, replaced)

    def get(message: Any, made: dict[str, Any], _: Violations | None, __: str) -> None:  # noqa: ANN401
        if message.WhichOneof(oneof.name) == wire.name:
            made[of.name] = well_known.json_value(getattr(message, wire.name))

    return _Unit(of.name, get, put, puts_empty=True, puts_none=True)


def _name_unit(oneof: OneofDescriptor, of: Field[Any], hint: Any) -> _Unit:  # noqa: ANN401 - an annotation
    """A oneof of texts identifies something, by an id or by a name, in the namespace of the request."""
    (ref,) = _records_of(hint)
    hints = get_type_hints(ref, include_extras=True)
    has_namespace = "namespace" in hints
    names = [field.name for field in oneof.fields]
    attributes = dict(zip(names, [one.name for one in fields(ref)], strict=False))
    checks = {name: _annotated(hints[attribute])[1] for name, attribute in attributes.items()}
    required = of.default is MISSING and of.default_factory is MISSING
    fault = f"set {' or '.join(names)}, not empty, {f'to name the {oneof.name}' if required else 'or leave both out'}"

    def put(item: Any, _: Any, message: Any, path: Path, __: Replacements) -> None:  # noqa: ANN401
        given = {name: text for name, attribute in attributes.items() if (text := getattr(item, attribute))}
        if len(given) > 1:
            raise InvalidFieldError.of(path_text((path, f".{oneof.name}")), f"set only one of {' and '.join(given)}")
        for name, text in given.items():
            setattr(message, name, text)

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

    return _Unit(of.name, get, put)


def _record_unit(oneof: OneofDescriptor, of: Field[Any], hint: Any) -> _Unit:  # noqa: ANN401 - an annotation
    """A oneof of messages holds a record of one of them."""
    records = {one.__name__: one for one in _records_of(hint)}
    by_record = {records[_type_of(field).name]: field for field in oneof.fields}
    required = of.default is MISSING and of.default_factory is MISSING
    fault = f"set {' or '.join(field.name for field in oneof.fields)}"

    def put(item: Any, _: Any, message: Any, path: Path, replaced: Replacements) -> None:  # noqa: ANN401
        name = by_record[type(item)].name
        getattr(message, name).SetInParent()
        _fill(item, getattr(message, name), (path, f".{name}"), replaced)

    def get(message: Any, made: dict[str, Any], checked: Violations | None, prefix: str) -> None:  # noqa: ANN401
        which = message.WhichOneof(oneof.name)
        if which:
            item = getattr(message, which)
            made[of.name] = _record(item, records[item.DESCRIPTOR.name], checked, f"{prefix}{which}.")
            return
        made[of.name] = None
        if checked is not None and required:
            checked.add(prefix + oneof.name, fault)

    return _Unit(of.name, get, put)


def _writer(wire: FieldDescriptor, hint: Any) -> Callable[[Any, Any, Any, Path, Replacements], None]:  # noqa: ANN401
    """How to set a field of a message from an item of a record: with its path, and the notes of replacements."""
    name, kind = wire.name, wire.message_type
    step = "" if wire.containing_oneof and not wire.containing_oneof.name.startswith("_") else f".{name}"
    fill = WELL_KNOWN[kind][0] if kind in WELL_KNOWN else _fill
    numbers = _numbers(wire.enum_type, _item_of(wire, hint)) if wire.enum_type else {}
    in_order = sorted if get_origin(hint) is frozenset else list

    def put_items(items: Any, _: Any, message: Any, __: Path, ___: Replacements) -> None:  # noqa: ANN401
        getattr(message, name).extend(in_order(numbers[item] if numbers else item for item in items))

    def put_messages(items: Any, _: Any, message: Any, path: Path, replaced: Replacements) -> None:  # noqa: ANN401
        add, here = getattr(message, name).add, (path, step)
        for item in items:
            fill(item, add(), _of_item(here, item), replaced)

    def put_message(item: Any, _: Any, message: Any, path: Path, replaced: Replacements) -> None:  # noqa: ANN401
        target = getattr(message, name)
        target.SetInParent()
        fill(item, target, (path, step), replaced)

    if kind is not None and kind.GetOptions().map_entry:
        return lambda item, _, message, __, ___: getattr(message, name).update(item)
    if wire.is_repeated:
        return put_messages if kind else put_items
    if kind is not None:
        return put_message
    return lambda item, _, message, __, ___: setattr(message, name, numbers[item] if numbers else item)


def _reader(wire: FieldDescriptor, hint: Any) -> Callable[[Any, Violations | None, str], Any]:  # noqa: ANN401
    """How to read a value from a field of a message: with its path, and the notes of violations."""
    kind = wire.message_type
    if kind is not None and kind.GetOptions().map_entry:
        return lambda item, _, __: dict(item)
    get = _reader_of_one(wire, _item_of(wire, hint))
    if not wire.is_repeated:
        return get
    collected = frozenset if get_origin(hint) is frozenset else tuple
    return lambda items, checks, path: collected(get(item, checks, path) for item in items)


def _reader_of_one(wire: FieldDescriptor, hint: Any) -> Callable[[Any, Violations | None, str], Any]:  # noqa: ANN401
    kind = wire.message_type
    if wire.enum_type is not None:
        return _enum_reader(wire.enum_type, hint)
    if kind is None:
        return lambda item, _, __: item
    if kind in WELL_KNOWN:
        return cast("Callable[[Any, Violations | None, str], Any]", WELL_KNOWN[kind][1])
    (record,) = _records_of(hint)
    return lambda item, checks, path: _record(item, record, checks, f"{path}.")


def _item_of(wire: FieldDescriptor, hint: Any) -> Any:  # noqa: ANN401 - an annotation
    return get_args(hint)[0] if wire.is_repeated else hint


def _enum_reader(descriptor: EnumDescriptor, kind: Any) -> Callable[[int, Violations | None, str], Any]:  # noqa: ANN401
    numbers = _numbers(descriptor, kind)
    by_number = {number: member for member, number in numbers.items()}
    first = by_number.setdefault(0, next(iter(numbers)))
    fault = f"is not one of {', '.join(descriptor.values_by_number[one].name for one in numbers.values())}"

    def get(number: int, checks: Violations | None, path: str) -> Any:  # noqa: ANN401 - a member
        if checks is not None and number not in by_number:
            checks.add(path, f"{number} {fault}")
        return by_number.get(number, first)

    return get


@cache
def _numbers(descriptor: EnumDescriptor, kind: type[enum.Enum | bool]) -> dict[Any, int]:
    """The numbers of an enum's members; UNKNOWN is UNSPECIFIED on the wire. A bool maps to values 1 and 2."""
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
    return [one for one in (hint, *get_args(hint)) if is_dataclass(one)]


def _type_of(field: FieldDescriptor) -> Descriptor:
    return cast("Descriptor", field.message_type)


def _of_item(path: Path, item: Any) -> Path:  # noqa: ANN401 - a record, or a plain value
    name = getattr(item, "name", "")
    return (path, f".{name}") if isinstance(name, str) and name else path


# --- JSON -----------------------------------------------------------------------------------------------------------


def to_json(record: object) -> dict[str, Json]:
    """Makes the JSON object of a record: the proto's field names, every key always present, null for unknown values.

    A key that only shows whether another is set is omitted, and so is the other one if unset. A record with another
    JSON form has a method `in_json` that changes the object.
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
    """Makes the JSON object of a record of a list: what lists omit (`VIEW_BASIC`) is null, not empty."""
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
