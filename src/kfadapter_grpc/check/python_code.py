"""Analyses the Python code of a component, as far as its text shows."""

from __future__ import annotations

import ast
from collections.abc import Iterator

_PLAIN_CALLS = frozenset({"str", "int", "float", "len", "round", "sum", "min", "max", "abs", "format", "repr"})
_STRUCTS = frozenset({"log_roc_curve", "log_confusion_matrix", "log_roc_data_point", "set_confusion_matrix_categories"})


def raises(code: ast.Module) -> bool:
    return any(isinstance(node, ast.Raise) or _called(node) in {"exit", "_exit"} for node in ast.walk(code))


def mentions(code: ast.Module, text: str) -> bool:
    return any(isinstance(node, ast.Constant) and node.value == text for node in ast.walk(code))


def artifact_reads(code: ast.Module, artifact: str) -> list[str]:
    """Which of `metadata` and `name` it reads from an input artifact, or from those in an input list."""
    names = {artifact}
    for node in ast.walk(code):
        if isinstance(node, ast.For | ast.comprehension) and _is_one_of(node.iter, names):
            names |= {one.id for one in ast.walk(node.target) if isinstance(one, ast.Name)}
    attributes = {
        node.attr
        for node in ast.walk(code)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load) and _is_one_of(node.value, names)
    }
    return [name for name in ("metadata", "name") if name in attributes]


def writes_names(code: ast.Module) -> bool:
    """Whether it assigns the name of an artifact."""
    return any(
        isinstance(node, ast.Attribute) and node.attr == "name" and isinstance(node.ctx, ast.Store)
        for node in ast.walk(code)
    )


def writes_structs(code: ast.Module) -> bool:
    """Whether it writes other metadata than texts and numbers, as far as can be seen."""
    return any(not _is_plain(value) for value in _written(code)) or any(
        _called(node) in _STRUCTS for node in ast.walk(code)
    )


def _written(code: ast.Module) -> Iterator[ast.expr]:
    """The values that are written to metadata."""
    for node in ast.walk(code):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Subscript) and _is_metadata(target.value):
                    yield node.value
                elif _is_metadata(target):
                    yield from _entries(node.value)
        elif (
            isinstance(node, ast.Call) and _called(node) == "update" and _is_metadata(getattr(node.func, "value", node))
        ):
            yield from (keyword.value for keyword in node.keywords if keyword.arg)
            for argument in node.args:
                yield from _entries(argument)


def _entries(value: ast.expr) -> list[ast.expr]:
    return value.values if isinstance(value, ast.Dict) else [value]


def _is_metadata(node: ast.expr) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "metadata"


def _is_plain(value: ast.expr) -> bool:
    """Whether it is a text or a number, or may be one."""
    if isinstance(value, ast.Constant):
        return not isinstance(value.value, bool | None)
    if isinstance(value, ast.Call):
        return _called(value) in _PLAIN_CALLS or isinstance(value.func, ast.Attribute)
    return isinstance(value, ast.JoinedStr | ast.BinOp | ast.UnaryOp | ast.Name | ast.Attribute | ast.Subscript)


def _is_one_of(node: ast.expr, names: set[str]) -> bool:
    return isinstance(node, ast.Name) and node.id in names


def _called(node: ast.AST) -> str:
    """The name of the called function, without what precedes the last dot."""
    if not isinstance(node, ast.Call):
        return ""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
