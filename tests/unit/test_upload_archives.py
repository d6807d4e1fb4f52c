from __future__ import annotations

import gzip
import random
import struct
import tarfile
import zipfile
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.transcripts import PIPELINES
from tests.unit.uploading import not_a_pipeline, receive, refused, targz, tarred, zipped

from kfadapter_grpc.contract.errors import InvalidPipelineFileError, UploadTooLargeError
from kfadapter_grpc.contract.pipelines import FileKind
from kfadapter_grpc.upload.limits import UploadLimits

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HELLO = (PIPELINES / "hello_world.yaml").read_bytes()
BROKEN = b"a: 1\nb: [}\n"
PACKERS = pytest.mark.parametrize("pack", [zipped, targz], ids=["zip", "tar.gz"])
SMALL = UploadLimits(max_bytes=200_000)
END_RECORD = struct.Struct("<4s4H2LH")


@PACKERS
def test_member_that_kfp_accepts(pack: Callable[..., bytes]) -> None:
    """`pipeline.yaml` in the root is checked, otherwise the first file, and no other."""
    assert receive(pack(("a.yaml", BROKEN), ("pipeline.yaml", HELLO))).size
    assert receive(pack(("a.yaml", HELLO), ("b.yaml", BROKEN))).size
    assert receive(pack(("dir/", b""), ("a.yaml", HELLO))).size
    assert "'pipeline.yaml' in the archive" in not_a_pipeline(pack(("a.yaml", HELLO), ("pipeline.yaml", BROKEN)))
    assert "'a.yaml' in the archive" in not_a_pipeline(pack(("a.yaml", BROKEN), ("b.yaml", HELLO)))
    assert "'a.yaml' in the archive" in not_a_pipeline(pack(("a.yaml", BROKEN), ("x/pipeline.yaml", HELLO)))


@PACKERS
def test_place_in_a_member(pack: Callable[..., bytes]) -> None:
    """A syntax error in a member is reported with the member's name, line and column."""
    error = refused(pack(("a.yaml", BROKEN)), InvalidPipelineFileError)
    assert error.metadata == {"line": "2", "column": "5", "member": "'a.yaml'"}


@PACKERS
def test_members_that_are_no_text(pack: Callable[..., bytes]) -> None:
    """Members get the same checks as files: images and nested archives are rejected."""
    assert "a PNG image" in not_a_pipeline(pack(("pipeline.yaml", b"\x89PNG\r\n\x1a\n")))
    assert "an archive" in not_a_pipeline(pack(("pipeline.yaml", targz(("pipeline.yaml", HELLO)))))
    assert "empty" in not_a_pipeline(pack(("pipeline.yaml", b"")))


@PACKERS
def test_archives_without_files(pack: Callable[..., bytes]) -> None:
    """An archive without files is rejected."""
    assert "holds no file" in not_a_pipeline(pack())
    assert "holds no file" in not_a_pipeline(pack(("dir/", b"")))


@PACKERS
@pytest.mark.parametrize(
    "name", ["../../etc/x.yaml", "/etc/x.yaml", "C:\\x.yaml", "\x1b[31mx.yaml", "y" * 90 + ".yaml"]
)
def test_names_are_never_paths(pack: Callable[..., bytes], name: str, tmp_path: Path) -> None:
    """A member's name is only used in messages: cut, escaped, and never opened."""
    limits = UploadLimits(directory=tmp_path, memory_bytes=0)
    assert receive(pack((name, HELLO)), limits).size
    message = refused(pack((name, BROKEN)), InvalidPipelineFileError, limits).message
    assert len(message.partition(" in the archive")[0]) <= 60
    assert not list(tmp_path.iterdir())


@PACKERS
def test_unpacked_size(pack: Callable[..., bytes]) -> None:
    """A member whose unpacked size exceeds the limit is rejected with that size, before it is unpacked."""
    error = refused(pack(("pipeline.yaml", bytes(300_000))), UploadTooLargeError, SMALL)
    assert "unpacked" in error.message
    assert error.metadata == {"limit_bytes": "200000", "size_bytes": "300000"}


@PACKERS
def test_too_many_members(pack: Callable[..., bytes]) -> None:
    """More than 1000 members are rejected."""
    assert "1000 members" in not_a_pipeline(pack(*((f"{number}.yaml", b"a: 1") for number in range(1_001))))


@pytest.mark.slow
@PACKERS
@given(data=st.data())
def test_damaged_archives(pack: Callable[..., bytes], data: st.DataObject) -> None:
    """Any damaged archive is either accepted or rejected as the caller's fault."""
    content = bytearray(pack(("a.yaml", HELLO), ("pipeline.yaml", b"a: 1\n")))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(4, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.one_of(st.none(), st.integers(4, len(content))))
    try:
        receive(bytes(content[:cut]), SMALL)
    except (InvalidPipelineFileError, UploadTooLargeError) as error:
        wording = error.message
    else:
        wording = "accepted"
    assert wording.isprintable()


@pytest.mark.slow
@given(data=st.data())
def test_damaged_tar(data: st.DataObject) -> None:
    """Damage inside the tar, with headers whose checksums are right, is the caller's fault too."""
    content = bytearray(tarred(("long/" * 30 + "a.yaml", HELLO), ("b.yaml", b"a: 1"), form=tarfile.PAX_FORMAT))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    for start in range(0, len(content), 512):
        header = content[start : start + 512]
        if header[257:262] == b"ustar":
            header[148:156] = b" " * 8
            content[start + 148 : start + 156] = b"%06o\0 " % sum(header)
    try:
        receive(gzip.compress(content, 1), SMALL)
    except (InvalidPipelineFileError, UploadTooLargeError) as error:
        wording = error.message
    else:
        wording = "accepted"
    assert wording.isprintable()


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("name", ["a" * 98 + "/" + "b" * 40 + ".yaml", "이름.yaml", "pipeline.yaml"])
def test_tar_formats(form: int, name: str) -> None:
    """Every format of tar is read, including long and Korean names."""
    assert receive(targz((name, HELLO), form=form)).kind is FileKind.TAR_GZ
    assert "in the archive" in not_a_pipeline(targz((name, BROKEN), ("other", HELLO), form=form))


def _pax(content: bytes, name: str = "other.yaml", **records: str) -> bytes:
    """An entry with an extended header before it, without the archive's end."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    info.pax_headers = dict(records)
    return info.tobuf(tarfile.PAX_FORMAT) + content.ljust(-(-len(content) // 512) * 512, b"\0")


def _long_name(name: bytes) -> bytes:
    """A GNU header that gives the next entry a long name."""
    info = tarfile.TarInfo("././@LongLink")
    info.type = tarfile.GNUTYPE_LONGNAME
    info.size = len(name)
    return info.tobuf(tarfile.GNU_FORMAT) + name.ljust(512, b"\0")


def test_extended_names_choose_the_member() -> None:
    """The name in an extended header is used instead of the original one, as by KFP."""
    content = gzip.compress(_pax(HELLO, "first.yaml") + _pax(BROKEN, path="pipeline.yaml"))
    assert "'pipeline.yaml' in the archive" in not_a_pipeline(content)


def test_several_extensions_of_one_entry() -> None:
    """As in Go, a GNU long name takes precedence over an extended header, and only the last extended header applies."""
    named_twice = _long_name(b"long.yaml") + _pax(BROKEN, path="pipeline.yaml")
    assert "'long.yaml' in the archive" in not_a_pipeline(gzip.compress(named_twice))
    shorter = _pax(b"", size="5")[:1024]
    assert "'other.yaml' in the archive" in not_a_pipeline(gzip.compress(shorter + _pax(BROKEN, comment="x")))
    assert receive(gzip.compress(_pax(BROKEN, size="5"))).size


def _entry(name: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = "/etc/passwd"
    return info


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_tar_entries_that_are_no_files(kind: bytes) -> None:
    """Links, directories and devices are skipped and never followed."""
    assert receive(targz(_entry("pipeline.yaml", kind), ("a.yaml", HELLO))).size
    assert "holds no file" in not_a_pipeline(targz(_entry("pipeline.yaml", kind)))


def test_unusual_tar_entries() -> None:
    """Sparse files and entries of unknown types are rejected, as KFP may read them differently."""
    assert "unusual type, 'S'" in not_a_pipeline(targz(_entry("pipeline.yaml", tarfile.GNUTYPE_SPARSE)))
    info = tarfile.TarInfo("pipeline.yaml")
    info.pax_headers = {"GNU.sparse.major": "1"}
    assert "sparse" in not_a_pipeline(targz(info, form=tarfile.PAX_FORMAT))
    info.pax_headers = {"comment": "x" * 20_000}
    assert "very long header" in not_a_pipeline(targz(info, form=tarfile.PAX_FORMAT))


def test_gzip_that_is_no_tar() -> None:
    """A gzipped YAML without a tar archive is rejected with an explanation."""
    assert "no tar archive inside" in not_a_pipeline(gzip.compress(HELLO))
    assert "no tar archive inside" in not_a_pipeline(gzip.compress(b"a: 1"))


def test_gzip_in_pieces() -> None:
    """Data after the end of a gzip file is rejected, as KFP would read on."""
    packed = tarred(("a.yaml", HELLO))
    assert "has data after its end" in not_a_pipeline(gzip.compress(packed[:512]) + gzip.compress(packed[512:]))


@pytest.mark.parametrize("kept", [10, 30, 200, -1])
def test_truncated_gzip(kept: int) -> None:
    """A truncated gzip file is reported as damaged."""
    content = gzip.compress(tarred(("a.yaml", random.Random(1).randbytes(2_000))))  # noqa: S311
    assert "damaged" in not_a_pipeline(content[:kept] if kept > 0 else content[: len(content) // 2])


def test_tar_bomb() -> None:
    """An archive with too much data before the pipeline is rejected after four times the limit."""
    bomb = targz(("a.bin", bytes(2_000_000)), ("pipeline.yaml", HELLO))
    error = refused(bomb, UploadTooLargeError, SMALL)
    assert error.metadata == {"limit_bytes": "800000"}


def test_zip_bomb() -> None:
    """A member that unpacks to more than its declared size is cut off there and reported as damaged."""
    bomb = bytearray(zipped(("pipeline.yaml", b"# " + b"x" * 5_000_000)))
    directory = bomb.rindex(b"PK\x01\x02")
    struct.pack_into("<L", bomb, directory + 24, 1_000)
    assert "cannot be unpacked" in not_a_pipeline(bytes(bomb))


@pytest.mark.parametrize("pack", [zipped, targz])
@pytest.mark.parametrize("name", ["pipeline", "pipeline.json", "pipeline.YAML"])
def test_names_that_kfp_does_not_accept(pack: Callable[[tuple[str, bytes]], bytes], name: str) -> None:
    """A file whose name KFP does not accept as YAML is rejected."""
    assert f"{name!r}, but KFP takes only names that end with .yaml" in not_a_pipeline(pack((name, HELLO)))


def test_zip_links() -> None:
    """A symbolic link in a zip is not read as the file, because KFP would read the link's own text."""
    content = bytearray(zipped(("pipeline.yaml", b"/etc/passwd")))
    struct.pack_into("<L", content, content.rindex(b"PK\x01\x02") + 38, 0o120777 << 16)
    assert "not a regular file" in not_a_pipeline(bytes(content))


def test_zip_encrypted() -> None:
    """An encrypted member is rejected as such."""
    content = bytearray(zipped(("pipeline.yaml", HELLO)))
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    assert "encrypted" in not_a_pipeline(bytes(content))


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_zip_compression(compression: int) -> None:
    """A compression that KFP cannot read is rejected."""
    assert "compressed in a way" in not_a_pipeline(zipped(("pipeline.yaml", HELLO), compression=compression))


def test_zip_stored() -> None:
    """An uncompressed member is accepted."""
    assert receive(zipped(("pipeline.yaml", HELLO), compression=zipfile.ZIP_STORED)).kind is FileKind.ZIP


def _with_end(content: bytes, **changes: int) -> bytes:
    names = ("disk", "first_disk", "here", "count", "bytes", "at", "comment")
    magic, *values = END_RECORD.unpack(content[-END_RECORD.size :])
    fields = dict(zip(names, values, strict=True)) | changes
    return content[: -END_RECORD.size] + END_RECORD.pack(magic, *fields.values())


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"count": 5}, "last record"),
        ({"count": 5, "here": 5}, "number of its members"),
        ({"count": 65535, "here": 65535}, "1000 members"),
        ({"bytes": 2 << 20}, "1000 members"),
        ({"at": 3}, "not where it should be"),
        ({"disk": 1}, "last record"),
        ({"comment": 9}, "last record"),
    ],
)
def test_zip_end_record(changes: dict[str, int], hint: str) -> None:
    """The record at the end of a zip is checked before the directory is read."""
    assert hint in not_a_pipeline(_with_end(zipped(("a.yaml", HELLO)), **changes))


def test_zip_with_comment() -> None:
    """A comment at the end of a zip is accepted."""
    content = zipped(("a.yaml", HELLO))
    assert receive(_with_end(content, comment=3) + b"abc").kind is FileKind.ZIP


def test_zip64() -> None:
    """The zip64 format is rejected as such."""
    content = zipped(("a.yaml", HELLO))
    locator = b"PK\x06\x07" + bytes(16)
    assert "zip64" in not_a_pipeline(content[: -END_RECORD.size] + locator + content[-END_RECORD.size :])


def test_zip_stored_names() -> None:
    """The stored name is used, as by KFP, not the one that `zipfile` corrects."""
    content = zipped(("a.yaml", BROKEN), ("pipeline.yaml_x", HELLO))
    content = content.replace(b"pipeline.yaml_x", b"pipeline.yaml\0x")
    assert "'a.yaml' in the archive" in not_a_pipeline(content)
