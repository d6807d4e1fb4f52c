"""Files that are crafted to harm a program that opens them."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

MIB = 1 << 20
HELLO = (Path(__file__).parent / "data" / "pipelines" / "hello_world.yaml").read_bytes()
"""A pipeline that is well."""


def zip_of(*members: tuple[str, bytes]) -> bytes:
    """Returns a zip with these members."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return target.getvalue()


def tar_of(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """Returns a tar.gz with these members."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz") as archive:
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return target.getvalue()


def symlink(name: str, target: str) -> tarfile.TarInfo:
    """Returns a member that is a symbolic link."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info


def zip_with_huge_directory() -> bytes:
    """Returns a zip whose directory has half a million entries."""
    entry = struct.pack("<4s6H3L5H2L", b"PK\x01\x02", 20, 20, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    directory = entry * (20 * MIB // len(entry))
    return directory + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 65535, 65535, len(directory), 0, 0)


def billion_laughs() -> bytes:
    """Returns YAML whose aliases expand to 10^9 strings."""
    lines = [b"a%d: &a%d [%s]" % (n, n, b",".join([b"*a%d" % (n - 1)] * 10)) for n in range(1, 10)]
    return b"\n".join([b"a0: &a0 [lol]", *lines])


def large_text_many_times() -> bytes:
    """Returns YAML that references a string of 1 MiB 900 times."""
    return b"a: &a " + b"x" * MIB + b"\nb: [" + b"*a," * 900 + b"]"


def nested_aliases() -> bytes:
    """Returns YAML that is nested 300 levels deep by aliases."""
    return b"\n".join([b"a0: &a0 [x]"] + [b"a%d: &a%d [*a%d]" % (n, n, n - 1) for n in range(1, 300)])


def _typed(kind: bytes, name: str, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def _zip_that_lies() -> bytes:
    """Returns a zip that declares a thousandth of its actual sizes."""
    content = b"a: " + b"b" * MIB
    size = len(content).to_bytes(4, "little")
    return zip_of(("pipeline.yaml", content)).replace(size, (len(content) // 1000).to_bytes(4, "little"))


def _gzip_that_lies() -> bytes:
    return gzip.compress(b"a: " + b"b" * MIB)[:-4] + (10).to_bytes(4, "little")


def _tar_that_lies() -> bytes:
    data = bytearray(gzip.decompress(tar_of((tarfile.TarInfo("pipeline.yaml"), b"a: b"))))
    data[124:136] = b"77777777777\0"
    return gzip.compress(bytes(data))


def _in_itself(data: bytes, times: int) -> bytes:
    for _ in range(times):
        data = zip_of(("pipeline.zip", data))
    return data


_KEYS = b"a: 1\n" * 2
HOSTILE: dict[str, Callable[[], bytes]] = {
    "33 MiB": lambda: HELLO + b"#" * (33 * MIB),
    "a zip that unpacks to 200 MiB": lambda: zip_of(("pipeline.yaml", b"#" * (200 * MIB))),
    "a gzip that unpacks to 200 MiB": lambda: gzip.compress(b"#" * (200 * MIB)),
    "a tar member of 200 MiB": lambda: tar_of((tarfile.TarInfo("pipeline.yaml"), b"#" * (200 * MIB))),
    "a zip with half a million members": zip_with_huge_directory,
    "a tar with 20,000 members": lambda: tar_of(*((tarfile.TarInfo(f"{n}.txt"), b"") for n in range(20_000))),
    "a tar header that lies": lambda: gzip.compress(b"\xff" * 512 * 9),
    "a tar link out of the archive": lambda: tar_of((symlink("a.yaml", "/etc/passwd"), b"")),
    "a tar hard link": lambda: tar_of((_typed(tarfile.LNKTYPE, "pipeline.yaml", "/etc/passwd"), b"")),
    "a tar device": lambda: tar_of((_typed(tarfile.CHRTYPE, "pipeline.yaml"), b"")),
    "a tar pipe": lambda: tar_of((_typed(tarfile.FIFOTYPE, "pipeline.yaml"), b"")),
    "a tar that lies about a size": _tar_that_lies,
    "a tar of ../": lambda: tar_of((tarfile.TarInfo("../../pipeline.yaml"), HELLO)),
    "a tar of /etc": lambda: tar_of((tarfile.TarInfo("/etc/pipeline.yaml"), HELLO)),
    "a tar without members": tar_of,
    "a zip of ../": lambda: zip_of(("../../pipeline.yaml", HELLO)),
    "a zip of a name with a zero": lambda: zip_of(("pipeline\0.yaml", HELLO)),
    "a zip that lies about sizes": _zip_that_lies,
    "a gzip that lies about its size": _gzip_that_lies,
    "a zip cut short": lambda: zip_of(("pipeline.yaml", HELLO))[:-30],
    "a gzip cut short": lambda: gzip.compress(HELLO)[:-12],
    "a zip with a wrong checksum": lambda: zip_of(("pipeline.yaml", b"hello")).replace(
        zlib.crc32(b"hello").to_bytes(4, "little"), b"abcd"
    ),
    "a zip in itself, 50 times": lambda: _in_itself(HELLO, 50),
    "billion laughs": billion_laughs,
    "a million aliases": lambda: b"a: &a x\nb: [" + b"*a," * MIB + b"]",
    "a large text, 900 times": large_text_many_times,
    "an alias of what it is in": lambda: b"a: &a [*a]",
    "an alias of nothing": lambda: b"a: *b",
    "10,000 lists in each other": lambda: b"[" * 10_000,
    "10,000 maps in each other": lambda: b"{a: " * 10_000,
    "10,000 lists in each other, as JSON": lambda: b"[" * 10_000 + b"]" * 10_000,
    "30 MiB of lists in each other": lambda: b"[" * (30 * MIB),
    "lists in each other by aliases": nested_aliases,
    "five million values": lambda: b"[" + b"a," * (5 * MIB) + b"]",
    "duplicate keys": lambda: _KEYS + HELLO,
    "duplicate keys, as JSON": lambda: b'{"a": 1, "a": 2}',
    "a YAML tag that makes objects": lambda: b"!!python/object/apply:os.system ['true']",
    "bytes that are no UTF-8": lambda: b"a: \xff\xfe\xfa",
    "zeros": lambda: bytes(1000),
    "only a byte order mark": lambda: b"\xef\xbb\xbf",
    "a number of 100,000 digits": lambda: b"a: " + b"9" * 100_000,
    "a key of 10 MiB": lambda: b"? " + b"k" * (10 * MIB) + b"\n: v",
}
"""Hostile files by what they are."""
