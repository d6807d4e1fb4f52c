"""What cel-go's type checker rejects before an expression is evaluated; cel-python has no type checker.

A type is `dyn` (known only at evaluation, as for all parameters), the name of another type, or a list, a map or a
message with the types of its contents.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from lark import Token, Tree

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Node: TypeAlias = Tree[Token] | Token


class CheckError(Exception):
    """An expression has wrong types or an unknown name; the message names it."""


@dataclass(frozen=True)
class Type:
    """A type of CEL, with the types of a list's items, or of a map's keys and values."""

    name: str
    parts: tuple[Type, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}({', '.join(map(str, self.parts))})" if self.parts else self.name

    def fits(self, other: Type) -> bool:
        if DYN in {self, other}:
            return True
        parts = zip(self.parts, other.parts, strict=False)
        return self.name == other.name and all(one.fits(two) for one, two in parts)


DYN, BOOL, INT, STRING, NULL, TYPE = (Type(name) for name in ("dyn", "bool", "int", "string", "null", "type"))
DOUBLE, TIMESTAMP, DURATION = Type("double"), Type("timestamp"), Type("duration")
_ANY_MAP = Type("map", (STRING, DYN))
# The fields of ExecutorInput (api/v2alpha1/pipeline_spec.proto) and of google.protobuf.Value.
_MESSAGES: dict[str, dict[str, Type]] = {
    "inputs": {
        "parameters": Type("map", (STRING, Type("parameter"))),
        "artifacts": _ANY_MAP,
        "parameter_values": _ANY_MAP,
    },
    "outputs": {"parameters": _ANY_MAP, "artifacts": _ANY_MAP, "output_file": STRING},
    "parameter": {"value": DYN},
}
_VARIABLES = {
    **{name: Type(name) for name in ("inputs", "outputs")},
    "number_value": DOUBLE,
    "string_value": STRING,
    "bool_value": BOOL,
}
_TYPE_NAMES = {"int", "uint", "double", "bool", "string", "bytes", "list", "map", "null_type", "type"}
_LITERALS = {
    "INT_LIT": INT,
    "UINT_LIT": Type("uint"),
    "FLOAT_LIT": DOUBLE,
    "STRING_LIT": STRING,
    "MLSTRING_LIT": STRING,
    "BYTES_LIT": Type("bytes"),
    "BOOL_LIT": BOOL,
    "NULL_LIT": NULL,
}
_ORDERED = {"bool", "int", "uint", "double", "string", "bytes", "timestamp", "duration"}
_NUMBERS = {"int", "uint", "double"}
_OPERANDS = {
    "addition_add": {*_NUMBERS, "string", "bytes", "list", "timestamp", "duration"},
    "addition_sub": {*_NUMBERS, "timestamp", "duration"},
    "multiplication_mul": _NUMBERS,
    "multiplication_div": _NUMBERS,
    "multiplication_mod": {"int", "uint"},
}
_NAMES = {
    "relation_lt": "_<_",
    "relation_le": "_<=_",
    "relation_gt": "_>_",
    "relation_ge": "_>=_",
    "relation_eq": "_==_",
    "relation_ne": "_!=_",
    "relation_in": "@in",
    "addition_add": "_+_",
    "addition_sub": "_-_",
    "multiplication_mul": "_*_",
    "multiplication_div": "_/_",
    "multiplication_mod": "_%_",
    "unary_not": "!_",
    "unary_neg": "-_",
}
_SIZED = {"string", "bytes", "list", "map"}
# The first argument's types, and the result's type, of functions and methods. Further arguments are strings.
_FUNCTIONS: dict[str, tuple[set[str], Type]] = {
    "int": ({*_NUMBERS, "string", "timestamp"}, INT),
    "uint": ({*_NUMBERS, "string"}, Type("uint")),
    "double": ({*_NUMBERS, "string"}, DOUBLE),
    "bool": ({"bool", "string"}, BOOL),
    "string": ({*_ORDERED}, STRING),
    "bytes": ({"bytes", "string"}, Type("bytes")),
    "timestamp": ({"string", "int", "timestamp"}, TIMESTAMP),
    "duration": ({"string", "int", "duration"}, DURATION),
    "size": (_SIZED, INT),
    "matches": ({"string"}, BOOL),
    "parseJson": ({"string"}, DYN),
}
_METHODS: dict[str, tuple[set[str], Type]] = {
    "size": (_SIZED, INT),
    **{name: ({"string"}, BOOL) for name in ("startsWith", "endsWith", "contains", "matches")},
    **{
        f"get{name}": ({"timestamp"}, INT)
        for name in ("FullYear", "Month", "Date", "DayOfMonth", "DayOfWeek", "DayOfYear")
    },
    **{f"get{name}": ({"timestamp", "duration"}, INT) for name in ("Hours", "Minutes", "Seconds", "Milliseconds")},
}
_MACROS = {"all": BOOL, "exists": BOOL, "exists_one": BOOL, "map": Type("list", (DYN,)), "filter": DYN}


def check(tree: Tree[Token], variables: Sequence[str]) -> None:
    """Raises CheckError for an expression that cel-go would reject; `variables` are the names that it may use."""
    _type(tree, {name: _VARIABLES.get(name, DYN) for name in variables})


def _type(node: Node, scope: Mapping[str, Type]) -> Type:  # noqa: C901, PLR0911, PLR0912  # one case per rule of the grammar
    if isinstance(node, Token):
        raise CheckError(f"unexpected {node}")
    match node.data, node.children:
        case "literal", [Token() as token]:
            return _LITERALS[token.type]
        case "ident" | "dot_ident", [Token() as name]:
            if name not in scope and name not in _TYPE_NAMES:
                raise CheckError(f"undeclared reference to '{name}'")
            return scope.get(name, TYPE)
        case "expr", [condition, one, other]:
            return _branches(_type(condition, scope), _type(one, scope), _type(other, scope))
        case "conditionalor" | "conditionaland", [left, right]:
            for operand in (_type(left, scope), _type(right, scope)):
                _expect(operand.fits(BOOL), f"expected type 'bool' but found '{operand}'")
            return BOOL
        case "relation", [Tree(data=sign, children=[left]), right]:
            return _relation(str(sign), _type(left, scope), _type(right, scope))
        case "addition" | "multiplication", [Tree(data=sign, children=[left]), right]:
            return _arithmetic(str(sign), _type(left, scope), _type(right, scope))
        case "unary", [Tree(data=sign), operand]:
            kind = _type(operand, scope)
            _applies(str(sign), {"bool"} if sign == "unary_not" else {"int", "double"}, kind)
            return BOOL if sign == "unary_not" else kind
        case "member_dot", [member, Token() as name]:
            return _field(_type(member, scope), name)
        case "member_index", [member, index]:
            return _item(_type(member, scope), _type(index, scope))
        case "member_dot_arg", [member, Token() as name, *rest]:
            return _method(member, name, _arguments(rest), scope)
        case "ident_arg" | "dot_ident_arg", [Token() as name, *rest]:
            return _call(name, _arguments(rest), scope)
        case "list_lit", rest:
            return Type("list", (_common([_type(each, scope) for each in _arguments(rest)]),))
        case "map_lit", rest:
            kinds = [_type(each, scope) for each in _arguments(rest)]
            return Type("map", (_common(kinds[::2]), _common(kinds[1::2])))
        case _, [only]:
            return _type(only, scope)
    return DYN


def _arguments(rest: Sequence[Node]) -> list[Node]:
    return [each for one in rest if isinstance(one, Tree) for each in one.children]


def _common(kinds: Sequence[Type]) -> Type:
    return kinds[0] if len(set(kinds)) == 1 else DYN


def _branches(condition: Type, one: Type, other: Type) -> Type:
    fits = condition.fits(BOOL) and one.fits(other)
    _overload(fits, "_?_:_", condition, one, other)
    return DYN if DYN in {one, other} else one


def _relation(sign: str, left: Type, right: Type) -> Type:
    if sign == "relation_in":
        fits = right == DYN or (right.name in {"list", "map"} and left.fits(right.parts[0]))
    else:
        ordered = sign in {"relation_eq", "relation_ne"} or {left.name, right.name} <= {*_ORDERED, "dyn", "null"}
        fits = left.fits(right) and ordered
    _overload(fits, sign, left, right)
    return BOOL


def _arithmetic(sign: str, left: Type, right: Type) -> Type:
    for operand in (left, right):
        _applies(sign, _OPERANDS[sign], operand)
    known = right if left == DYN else left
    times = {left, right} & {TIMESTAMP, DURATION}
    _overload(bool(times) or left.fits(right), sign, left, right)
    return DYN if times else known


def _field(member: Type, name: str) -> Type:
    if member.name in _MESSAGES:
        _expect(name in _MESSAGES[member.name], f"undefined field '{name}'")
        return _MESSAGES[member.name][name]
    _expect(member.name in {"dyn", "map"}, f"type '{member}' does not support field selection")
    return member.parts[1] if member.parts else DYN


def _item(member: Type, index: Type) -> Type:
    fits = member == DYN or (
        member.name in {"list", "map"} and index.fits(member.parts[0] if member.name == "map" else INT)
    )
    _overload(fits, "_[_]", member, index)
    return member.parts[-1] if member.parts else DYN


def _method(member: Node, name: str, arguments: list[Node], scope: Mapping[str, Type]) -> Type:
    owner = _type(member, scope)
    if name in _MACROS:
        _applies(name, {"list", "map"}, owner)
        item = owner.parts[0] if owner.parts else DYN
        # The first argument is the name of the item.
        first = arguments[0] if arguments else None
        names = {str(name) for name in first.scan_values(bool)} if isinstance(first, Tree) else set()
        for each in arguments[1:]:
            _type(each, {**scope, **dict.fromkeys(names, item)})
        return owner if name == "filter" else _MACROS[name]
    _expect(name in _METHODS, f"undeclared reference to '{name}'")
    takes, gives = _METHODS[name]
    _applies(name, takes, owner)
    for each in arguments:
        _applies(name, {"string"}, _type(each, scope))
    return gives


def _call(name: str, arguments: list[Node], scope: Mapping[str, Type]) -> Type:
    if name == "has":
        last = arguments[0] if arguments else None
        while isinstance(last, Tree) and last.data != "member_dot" and len(last.children) == 1:
            last = last.children[0]
        _expect(isinstance(last, Tree) and last.data == "member_dot", "invalid argument to has() macro")
    kinds = [_type(each, scope) for each in arguments]
    if name in {"has", "dyn", "type"}:
        return {"has": BOOL, "dyn": DYN, "type": TYPE}[name]
    _expect(name in _FUNCTIONS, f"undeclared reference to '{name}'")
    takes, gives = _FUNCTIONS[name]
    for kind in kinds:
        _applies(name, takes, kind)
    return gives


def _applies(name: str, takes: set[str], kind: Type) -> None:
    _overload(kind == DYN or kind.name in takes, name, kind)


def _overload(fits: object, name: str, *kinds: Type) -> None:
    applied = ", ".join(map(str, kinds))
    _expect(fits, f"found no matching overload for '{_NAMES.get(name, name)}' applied to '({applied})'")


def _expect(fits: object, fault: str) -> None:
    if not fits:
        raise CheckError(fault)
