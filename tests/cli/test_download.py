from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from kfadapter.v1 import pipeline_pb2 as pb
from kfadapter_grpc import pipeline_yaml
from kfadapter_grpc.pipeline_yaml import write_yaml

if TYPE_CHECKING:
    from tests.cli.conftest import Kfadapter
    from tests.client.fake_adapter import FakeAdapter

ROOT = Path(__file__).parents[2]
FILES = sorted([*(ROOT / "tests" / "data" / "pipelines").glob("*.yaml"), *(ROOT / "examples").glob("*.yaml")])
SPEC = {
    "root": {"값": "1e-3", "y": "두 줄\n  둘째\n", "none": None},
    "pipelineInfo": {"name": "x", "share": 1.0, "i": 7},
}
PLATFORM: dict[str, object] = {"platforms": {"kubernetes": {}}}
JSON = b"\n---\n".join(json.dumps(one, ensure_ascii=False).encode() for one in (SPEC, PLATFORM))
YAML = """\
root:
  값: '1e-3'
  'y': |
    두 줄
      둘째
  none: null
pipelineInfo:
  name: x
  share: 1.0
  i: 7
---
platforms:
  kubernetes: {}
"""


@pytest.fixture(autouse=True)
def _file(fake: FakeAdapter) -> None:
    fake.add("train")
    fake.add_version("train", "2")
    fake.file = JSON


def rendered(*documents: object) -> bytes:
    """Returns documents as the command writes them."""
    target = io.BytesIO()
    write_yaml(io.BytesIO(b"\n---\n".join(json.dumps(one).encode() for one in documents)), target)
    return target.getvalue()


def test_yaml_is_for_people(kfadapter: Kfadapter) -> None:
    """YAML has block style, no escapes and KFP's order of keys; ambiguous strings are quoted."""
    ended = kfadapter("download", "train")
    assert (ended.code, ended.out, ended.err) == (0, YAML, "")


def test_json_is_as_it_comes(kfadapter: Kfadapter) -> None:
    """JSON is printed byte for byte, without an added line break."""
    assert kfadapter("download", "train", "-o", "json").out == JSON.decode()


@pytest.mark.parametrize(("style", "data"), [("json", JSON), ("yaml", YAML.encode())])
def test_to_a_file(kfadapter: Kfadapter, tmp_path: Path, style: str, data: bytes) -> None:
    """The file is written, an existing one is replaced, and stderr reports it; stdout stays empty."""
    path = tmp_path / "파이프라인"
    path.write_bytes(b"old")
    ended = kfadapter("download", "train", "-o", style, "--to", str(path))
    assert (ended.code, ended.out) == (0, "")
    assert ended.err.startswith(f"wrote {path}")
    assert path.read_bytes() == data
    assert list(tmp_path.iterdir()) == [path]


def test_a_dash_is_stdout(kfadapter: Kfadapter) -> None:
    """As in other programs, `-` means stdout."""
    assert kfadapter("download", "train", "--to", "-").out == YAML


def test_which_version(kfadapter: Kfadapter, fake: FakeAdapter) -> None:
    """`--version` accepts a version's name or its id, which is recognized by its form."""
    version_id = fake.versions["train"][0].pipeline_version_id
    kfadapter("download", "train", "--version", "2")
    kfadapter("download", "train", "--version", version_id)
    sent = [one for one in fake.requests if isinstance(one, pb.DownloadPipelineRequest)]
    assert [(one.version_name, one.pipeline_version_id) for one in sent] == [("2", ""), ("", version_id)]


@pytest.mark.slow
def test_failures_leave_no_file(kfadapter: Kfadapter, fake: FakeAdapter, tmp_path: Path) -> None:
    """A missing pipeline and a wrong checksum end with their usual codes and write no file."""
    path = tmp_path / "a"
    missing = kfadapter("download", "absent", "--to", str(path))
    assert (missing.code, missing.out) == (5, "")
    assert "PIPELINE_NOT_FOUND" in missing.err
    fake.download_info = pb.DownloadInfo(total_bytes=1)
    wrong = kfadapter("download", "train", "--to", str(path))
    assert (wrong.code, wrong.out) == (8, "")
    assert "CHECKSUM_MISMATCH" in wrong.err
    assert list(tmp_path.iterdir()) == []


def test_yaml_of_bad_bytes_is_not_shown(kfadapter: Kfadapter, fake: FakeAdapter) -> None:
    """Nothing is rendered before all bytes have arrived and the checksum was verified."""
    fake.download_info = pb.DownloadInfo(total_bytes=1)
    assert kfadapter("download", "train").out == ""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_real_files_survive(path: Path) -> None:
    """Each sample rendered as YAML holds the same documents, and is readable: without escapes."""
    documents = list(yaml.load_all(path.read_bytes(), yaml.CSafeLoader))
    text = rendered(*documents)
    assert list(yaml.load_all(text, yaml.CSafeLoader)) == documents
    assert b"\\u" not in text
    assert b"|\n" in text or all("\\n" not in json.dumps(one) for one in documents)


TEXTS = st.text(max_size=20) | st.text(
    st.sampled_from("a \n\t:#'\"-|>\\ \u2028\x85\x7f한😀{}[],&*!%@`?\r"), max_size=12
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner), max_leaves=12)


@pytest.mark.slow
@pytest.mark.parametrize("loader", [yaml.CSafeLoader, yaml.SafeLoader], ids=["libyaml", "PyYAML"])
@pytest.mark.parametrize("dumper", ["libyaml", "PyYAML"])
@given(first=st.dictionaries(TEXTS, VALUES), second=VALUES)
@example(first={"a": "\n  x\n y"}, second=["\n", " \n", "a\n ", "\n\n", "x\n\n", " x\n", "\ta\n", "---\n...\n"])
@example(first={"a\nb": 1, "": 2, "y": 3, "1e3": 4}, second=1e20)
def test_values_survive(dumper: str, loader: type[yaml.SafeLoader], first: object, second: object) -> None:
    """Any value is the same after writing and reading it as YAML, with either dumper and either loader."""
    with pytest.MonkeyPatch.context() as patch:
        if dumper == "PyYAML":
            patch.setattr(pipeline_yaml, "_BlockDumper", PurePython)
        text = rendered(first, second)
    assert list(yaml.load_all(text, loader)) == [first, second]


class PurePython(yaml.SafeDumper):
    """The dumper without libyaml."""

    ignore_aliases = pipeline_yaml._BlockDumper.ignore_aliases


PurePython.add_representer(str, pipeline_yaml._represent_text)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["1e-3", "1E5", "0x1F", "0o17", "1_000", "12:30", "y", "No", "on", "~", ".5", "-.inf",
                                  "2026-01-31", "+1", "=", "<<", "NULL"])  # fmt: skip
def test_texts_stay_texts_for_every_reader(text: str) -> None:
    """Strings that a YAML 1.1 or 1.2 parser could read as a number, a boolean or null are quoted."""
    assert rendered({text: text}).decode() == f"'{text}': '{text}'\n"


@pytest.mark.parametrize("text", ["train", "exec-add", "1e-3 or so", "python:3.11", "yes sir", "{{$}}"])
def test_plain_words_stay_plain(text: str) -> None:
    """Unambiguous strings are quoted only where YAML requires it."""
    assert text.strip("{}$") in rendered([text]).decode()
    assert yaml.safe_load(rendered([text])) == [text]
