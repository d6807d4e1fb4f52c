"""Generates docs/reference/api/ from the comments in protos/: one page per file, and one that lists all RPCs."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet

from kfadapter_grpc.methods import METHODS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from google.protobuf.descriptor_pb2 import (
        DescriptorProto,
        EnumDescriptorProto,
        MethodDescriptorProto,
        ServiceDescriptorProto,
    )

PROTOS = Path(__file__).resolve().parent.parent / "protos"

# Field numbers of descriptor.proto, which make up the paths of comments.
_PACKAGE, _MESSAGES, _ENUMS, _SERVICES = 2, 4, 5, 6
_FIELDS, _VALUES, _METHODS, _ONEOFS = 2, 2, 2, 8

INDEX_HEAD = """# API

The contract in `protos/`, from its comments. Any language's gRPC tools generate stubs from it; in Python they come
with `pip install kfadapter-grpc` (`kfadapter.v1`). Beside these services there are `grpc.health.v1.Health` and
reflection. What can go wrong is on the page of [errors](../errors.md). The role is that of a caller with
[access rules](../../security.md#access-rules).
"""
_FOOT = "\nThis page is made by `scripts/document.py` from `{}`.\n"
_CODE = re.compile(r"(`[^`]*`)")
_CONSTANT = re.compile(r"\b[A-Z]+_[A-Z0-9_]+\b")
_ERROR = re.compile(r"^- ([A-Z_]+) / ([A-Z_]+): ", re.MULTILINE)


def pages() -> dict[str, str]:
    """The pages by name."""
    files = _files()
    links = dict(_links(files))
    made = {f"{_stem(file)}.md": _Page(file, _comments(file), links).text() for file in files}
    return {"README.md": _index(files), **made}


def _files() -> list[FileDescriptorProto]:
    """The descriptors of all files, with their comments."""
    names = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.rglob("*.proto"))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "descriptors")
        protoc = (sys.executable, "-W", "ignore", "-m", "grpc_tools.protoc", f"-I{PROTOS}")
        subprocess.run(  # noqa: S603  the compiler that makes the stubs
            [*protoc, "--include_source_info", f"--descriptor_set_out={out}", *names], check=True, timeout=60
        )
        return list(FileDescriptorSet.FromString(out.read_bytes()).file)


def _comments(file: FileDescriptorProto) -> dict[tuple[int, ...], str]:
    """The leading comment of each part, by the part's path."""
    return {tuple(part.path): _unindent(part.leading_comments) for part in file.source_code_info.location}


def _unindent(comment: str) -> str:
    return "\n".join(line.removeprefix(" ").rstrip() for line in comment.strip("\n").splitlines())


def _links(files: Iterable[FileDescriptorProto]) -> Iterator[tuple[str, str]]:
    """The links to each type, by its full name, and to each constant of an enum."""
    for file in files:
        for name in (*(message.name for message in file.message_type), *(enum.name for enum in file.enum_type)):
            yield f".{file.package}.{name}", f"{_stem(file)}.md#{name.lower()}"
        for enum in file.enum_type:
            yield from ((value.name, f"{_stem(file)}.md#{enum.name.lower()}") for value in enum.value)


def _index(files: Iterable[FileDescriptorProto]) -> str:
    parts = [INDEX_HEAD]
    for file in files:
        comments = _comments(file)
        for number, service in enumerate(file.service):
            parts.append(f"\n## {service.name}\n\n| RPC | Role | |\n|---|---|---|\n")
            for position, method in enumerate(service.method):
                about = _one_line(comments[_SERVICES, number, _METHODS, position].partition("\n\n")[0])
                role = METHODS[f"/{file.package}.{service.name}/{method.name}"].role
                link = f"[`{method.name}`]({_stem(file)}.md#{method.name.lower()})"
                parts.append(f"| {link} | {role.value if role else ''} | {about} |\n")
    parts.append("\n## Files\n\n| | |\n|---|---|\n")
    for file in files:
        about = _one_line(_comments(file).get((_PACKAGE,), "").partition("\n\n")[0])
        parts.append(f"| [{file.name}]({_stem(file)}.md) | {about} |\n")
    return "".join(parts) + _FOOT.format("protos/")


@dataclass(frozen=True, slots=True)
class _Page:
    """Writes the page of one file.

    Attributes:
        file: The file.
        comments: The comments of its parts.
        links: The links to types and constants.
    """

    file: FileDescriptorProto
    comments: Mapping[tuple[int, ...], str]
    links: Mapping[str, str]

    def text(self) -> str:
        """The page."""
        parts = [f"# {_stem(self.file)}.proto\n\n{self._prose((_PACKAGE,))}\n"]
        parts += [self._service(number, service) for number, service in enumerate(self.file.service)]
        parts += ["\n## Messages\n"] if self.file.message_type else []
        parts += [self._message(number, message) for number, message in enumerate(self.file.message_type)]
        parts += ["\n## Enums\n"] if self.file.enum_type else []
        parts += [self._enum(number, enum) for number, enum in enumerate(self.file.enum_type)]
        return "".join(parts) + _FOOT.format(f"protos/{self.file.name}")

    def _service(self, number: int, service: ServiceDescriptorProto) -> str:
        path = (_SERVICES, number)
        methods = (
            self._method(f"/{self.file.package}.{service.name}/{method.name}", (*path, _METHODS, position), method)
            for position, method in enumerate(service.method)
        )
        return f"\n## {service.name}\n\n{self._prose(path)}\n" + "".join(methods)

    def _method(self, name: str, path: tuple[int, ...], method: MethodDescriptorProto) -> str:
        rpc = METHODS[name]
        request = "stream of " * method.client_streaming + self._linked(method.input_type)
        response = "stream of " * method.server_streaming + self._linked(method.output_type)
        effects = "no side effects" if rpc.read_only else "side effects"
        deadline = f"a deadline of {rpc.default_seconds:g} s" + ", more with size," * rpc.client_streaming
        return (
            f"\n### {method.name}\n\n`{name.removeprefix('/')}`\n\n{request} → {response}\n\n{self._prose(path)}\n"
            f"\n*It has {effects}, and {deadline} unless the caller sets one.*\n"
        )

    def _message(self, number: int, message: DescriptorProto) -> str:
        path = (_MESSAGES, number)
        parts = [f"\n### {message.name}\n\n{self._prose(path)}\n"]
        for position, one in enumerate(message.oneof_decl):
            if not one.name.startswith("_"):  # how protoc represents `optional`
                about = self._cell((*path, _ONEOFS, position))
                parts.append(f"\nOne of `{one.name}`: {about[:1].lower()}{about[1:]}\n")
        if message.field:
            parts.append("\n| Field | No. | Type | |\n|---|---|---|---|\n")
        for position, field in enumerate(message.field):
            about = self._cell((*path, _FIELDS, position))
            parts.append(f"| `{field.name}` | {field.number} | {self._type(message, field)} | {about} |\n")
        return "".join(parts)

    def _enum(self, number: int, enum: EnumDescriptorProto) -> str:
        path = (_ENUMS, number)
        rows = "".join(
            f"| `{value.name}` | {value.number} | {self._cell((*path, _VALUES, position))} |\n"
            for position, value in enumerate(enum.value)
        )
        return f"\n### {enum.name}\n\n{self._prose(path)}\n\n| Value | No. | |\n|---|---|---|\n{rows}"

    def _type(self, message: DescriptorProto, field: FieldDescriptorProto) -> str:
        """A field's type as in the proto file, with links."""
        entry = next(
            (one for one in message.nested_type if field.type_name.endswith(f".{message.name}.{one.name}")), None
        )
        if entry is not None:
            key, value = (self._type(entry, one) for one in entry.field)
            return f"map of {key} to {value}"
        oneof = field.HasField("oneof_index") and not field.proto3_optional
        before = f"one of `{message.oneof_decl[field.oneof_index].name}`: " if oneof else ""
        before += (
            "repeated " * (field.label == FieldDescriptorProto.LABEL_REPEATED) + "optional " * field.proto3_optional
        )
        return before + (self._linked(field.type_name) if field.type_name else _scalar(field))

    def _linked(self, full_name: str) -> str:
        short = full_name.removeprefix(f".{self.file.package}.").removeprefix(".")
        return self._link(full_name, short)

    def _link(self, name: str, text: str) -> str:
        if name not in self.links:
            return f"`{text}`"
        return f"[`{text}`]({self.links[name].removeprefix(f'{_stem(self.file)}.md')})"

    def _prose(self, path: tuple[int, ...]) -> str:
        """A comment as Markdown paragraphs."""
        text = _ERROR.sub(r"- `\1` / `\2`: ", self.comments.get(path, ""))
        text = re.sub(r"^Errors:$", "**[Errors](../errors.md)**\n", text, flags=re.MULTILINE)
        return self._marked(text)

    def _cell(self, path: tuple[int, ...]) -> str:
        """A comment as a table cell."""
        return _one_line(self._marked(self.comments.get(path, "")))

    def _marked(self, text: str) -> str:
        """Formats constants as code, and those of enums as links; existing code is unchanged."""
        pieces = _CODE.split(text)
        pieces[::2] = [_CONSTANT.sub(self._constant, piece.replace("<", "&lt;")) for piece in pieces[::2]]
        return "".join(pieces)

    def _constant(self, found: re.Match[str]) -> str:
        return self._link(found[0], found[0])


def _scalar(field: FieldDescriptorProto) -> str:
    return f"`{FieldDescriptorProto.Type.Name(field.type).removeprefix('TYPE_').lower()}`"


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _stem(file: FileDescriptorProto) -> str:
    return Path(file.name).stem
