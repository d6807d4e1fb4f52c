"""Detects the kind of a file by its first bytes."""

from __future__ import annotations

import re

from kfadapter_grpc.contract.pipelines import FileKind
from kfadapter_grpc.upload.limits import invalid_file

HEAD_BYTES = 4096

_BOM = b"\xef\xbb\xbf"
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_GZIP = b"\x1f\x8b"
_ADVICE = "upload the YAML or JSON that the kfp compiler writes"

_FOREIGN: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF87a", "a GIF image"),
    (b"GIF89a", "a GIF image"),
    (b"%PDF-", "a PDF document"),
    (b"\x7fELF", "an ELF program"),
    (b"\xcf\xfa\xed\xfe", "a Mach-O program"),
    (b"\xca\xfe\xba\xbe", "a Java class or a Mach-O program"),
    (b"\x00asm", "a WebAssembly module"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ\x00", "an xz archive"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"SQLite format 3\x00", "an SQLite database"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"\x80\x04\x95", "a Python pickle"),
    (b"\x80\x05\x95", "a Python pickle"),
)
_ENCODINGS = (
    (re.compile(rb"\0\0(?:\xfe\xff|\0[^\0])", re.DOTALL), "UTF-32, big-endian"),
    (re.compile(rb"(?:\xff\xfe|[^\0]\0)\0\0", re.DOTALL), "UTF-32, little-endian"),
    (re.compile(rb"\xfe\xff|\0[^\0]", re.DOTALL), "UTF-16, big-endian"),
    (re.compile(rb"\xff\xfe|[^\0]\0", re.DOTALL), "UTF-16, little-endian"),
)
"""The beginnings of texts in another encoding than UTF-8: a byte order mark or, as YAML requires, ASCII."""
_TAR_MAGIC_AT = 257
_MARKUP = re.compile(rb"\s*<(?:!doctype html|html|\?xml)", re.IGNORECASE)
_PYTHON = re.compile(rb"^(?:import|from) +kfp\b", re.MULTILINE)


def detect_kind(head: bytes) -> FileKind:
    """Returns a file's kind by its beginning. Raises InvalidPipelineFileError if it is neither text nor archive."""
    if head.startswith(_ZIP):
        return FileKind.ZIP
    if head.startswith(_GZIP):
        return FileKind.TAR_GZ
    ensure_text(head, "This")
    is_json = head.removeprefix(_BOM).lstrip()[:1] in (b"{", b"[")
    return FileKind.JSON if is_json else FileKind.YAML


def ensure_text(head: bytes, subject: str) -> None:
    """Raises InvalidPipelineFileError if `head` begins a well-known kind other than a pipeline, or binary data."""
    kind = _other_kind(head)
    if not kind and (encoding := next((name for begin, name in _ENCODINGS if begin.match(head)), "")):
        raise invalid_file(
            f"{subject} is text in {encoding}, and Kubeflow Pipelines reads UTF-8 only. Save it as UTF-8."
        )
    if not kind and b"\0" in head:
        kind = "binary data"
    if kind:
        raise invalid_file(f"{subject} looks like {kind}, not a pipeline; {_ADVICE}.")


def _other_kind(head: bytes) -> str:
    """Names the kind of a file with this beginning; empty for a text."""
    if head.startswith(_ZIP) or head.startswith(_GZIP):
        return "an archive"
    for magic, name in _FOREIGN:
        if head.startswith(magic):
            return name
    if head[_TAR_MAGIC_AT:].startswith(b"ustar"):
        return "an uncompressed tar archive"
    if _MARKUP.match(head):
        return "an HTML or XML page"
    is_python = b" kfp" in head and _PYTHON.search(head)  # the search alone would take a tenth of the check of 40 kB
    return "a Python program that has to be compiled first" if is_python else ""
