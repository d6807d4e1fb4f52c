from __future__ import annotations

import base64
import hashlib
import json
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from google.protobuf import json_format

from kfadapter.v1 import pipeline_pb2 as pb
from kfadapter_grpc.cli import pipeline_file
from kfadapter_grpc.cli.choices import IfExistsChoice
from kfadapter_grpc.cli.exit_codes import ExitCode
from kfadapter_grpc.cli.pipeline_file import default_name, pipeline_functions
from kfadapter_grpc.domain.errors import PipelineExistsError
from kfadapter_grpc.domain.models import IfExists

if TYPE_CHECKING:
    from tests.cli.conftest import Kfadapter
    from tests.client.fake_adapter import FakeAdapter

needs_kfp = pytest.mark.skipif(not pipeline_file.kfp_is_installed(), reason="kfp is not installed")

TWO_PIPELINES = """
from kfp import dsl


@dsl.component
def step() -> int:
    return 1


@dsl.pipeline(name="first-one")
def first():
    step()


@dsl.pipeline(name="second-one")
def second():
    step()
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file to upload."""
    path = tmp_path / "train.yaml"
    path.write_text("a: 1\n")
    return path


def metadata(fake: FakeAdapter) -> pb.UploadPipelineMetadata:
    """The metadata of the last upload."""
    sent = fake.requests[-1]
    assert isinstance(sent, pb.UploadPipelineMetadata)
    return sent


def test_upload_says_what_was_made(kfadapter: Kfadapter, file: Path) -> None:
    """The answer names pipeline and version, whether they are new, and the bytes."""
    first = kfadapter("upload", str(file))
    assert (first.code, first.err) == (0, "")
    fields = dict(line.split(maxsplit=1) for line in first.out.splitlines() if not line.startswith("Version id"))
    assert fields["Pipeline"] == "train (new)"
    assert fields["Version"] == "train (new)"
    assert (fields["Bytes"], fields["SHA-256"]) == ("5", hashlib.sha256(b"a: 1\n").hexdigest())
    assert "train (already there)" in kfadapter("upload", str(file)).out
    named = kfadapter("upload", str(file), "-o", "name").out
    assert kfadapter("get", named.rstrip("\n"), "-o", "name").out == named == "train\n"


def test_upload_as_json(kfadapter: Kfadapter, file: Path) -> None:
    """A script gets the whole receipt."""
    record = json.loads(kfadapter("upload", str(file), "--request-id", "r-1", "-o", "json").out)
    assert (record["pipeline"]["name"], record["version_created"], record["bytes"]) == ("train", True, 5)
    assert record["request_id"] == "r-1"


def test_upload_sends_its_options(kfadapter: Kfadapter, fake: FakeAdapter, file: Path) -> None:
    """Each option arrives in the metadata."""
    options = {
        "--name": "n",
        "--version-name": "v",
        "--description": "설명",
        "--display-name": "D",
        "--tag": "team=a",
        "--code-source-url": "https://example.org",
        "--if-exists": "skip-if-same",
        "--request-id": "r",
        "--namespace": "team-a",
    }
    assert kfadapter("upload", str(file), *[word for pair in options.items() for word in pair]).code == 0
    sent = metadata(fake)
    assert (sent.name, sent.version_name, sent.description, sent.display_name) == ("n", "v", "설명", "D")
    assert (dict(sent.tags), sent.code_source_url) == ({"team": "a"}, "https://example.org")
    assert (sent.if_exists, sent.request_id, sent.namespace) == (pb.IF_EXISTS_SKIP_IF_SAME, "r", "team-a")


def test_the_choices_are_those_of_the_domain() -> None:
    """The option offers exactly what the contract knows."""
    assert [choice.value for choice in IfExistsChoice] == [choice.value for choice in IfExists]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("a/train.yaml", "train"),
        ("train.v2.yml", "train.v2"),
        ("train.tar.gz", "train"),
        ("TRAIN.TGZ", "TRAIN"),
        ("p.py", "p"),
        ("모델.zip", "모델"),
        ("train", "train"),
        (".yaml", ".yaml"),
    ],
)
def test_the_name_is_the_files_without_ending(path: str, name: str) -> None:
    """Only endings of pipeline files are taken off."""
    assert default_name(Path(path)) == name


def test_a_refusal_is_told(kfadapter: Kfadapter, fake: FakeAdapter, file: Path) -> None:
    """An upload that the adapter refuses ends with its error."""
    fake.failures = [PipelineExistsError("a pipeline named 'train' exists")]
    ended = kfadapter("upload", str(file), "--if-exists", "fail")
    assert (ended.code, ended.out) == (ExitCode.REFUSED, "")
    assert "--if-exists new-version" in ended.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["absent.yaml"], "there is no file"),
        (["."], "is a folder"),
        (["-"], "--name"),
        (["train.yaml", "--function", "f"], ".py files only"),
    ],
)
def test_what_cannot_be_uploaded(
    arguments: list[str], said: str, kfadapter: Kfadapter, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is not there, a folder, a stream without a name: usage errors all."""
    monkeypatch.chdir(file.parent)
    ended = kfadapter("upload", *arguments)
    assert (ended.code, ended.out) == (ExitCode.USAGE, "")
    assert said in ended.err


def test_several_pipelines_in_one_file(kfadapter: Kfadapter, fake: FakeAdapter, tmp_path: Path) -> None:
    """A .py with two pipelines is not guessed at: the error names both and the option to choose."""
    path = tmp_path / "two.py"
    path.write_text(TWO_PIPELINES)
    ended = kfadapter("upload", str(path))
    assert (ended.code, fake.calls) == (ExitCode.USAGE, [])
    assert "2 pipelines: first, second" in ended.err
    assert "--function first" in ended.err


@needs_kfp
def test_a_chosen_pipeline_is_compiled(kfadapter: Kfadapter, fake: FakeAdapter, tmp_path: Path) -> None:
    """A .py is compiled by kfp before it is sent, and nothing is left beside it."""
    path = tmp_path / "two.py"
    path.write_text(TWO_PIPELINES)
    ended = kfadapter("payload", str(path), "--function", "second")
    assert ended.err == ""
    head, *chunks = map(json.loads, ended.out.splitlines())
    assert head["metadata"]["name"] == "two"
    content = b"".join(base64.b64decode(chunk["chunk"]) for chunk in chunks).decode()
    assert "name: second-one" in content
    assert list(tmp_path.iterdir()) == [path]
    assert fake.calls == []


@needs_kfp
def test_a_py_that_cannot_be_compiled(kfadapter: Kfadapter, fake: FakeAdapter, tmp_path: Path) -> None:
    """The end of kfp's own words says what is wrong."""
    path = tmp_path / "broken.py"
    path.write_text("raise RuntimeError('no good')\n")
    ended = kfadapter("upload", str(path))
    assert (ended.code, fake.calls) == (ExitCode.REFUSED, [])
    assert "no good" in ended.err


def test_without_kfp_a_py_says_what_to_install(
    kfadapter: Kfadapter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where kfp is missing the error names the command that installs it."""
    path = tmp_path / "one.py"
    path.write_text("x = 1\n")
    monkeypatch.setattr(pipeline_file, "kfp_is_installed", lambda: False)
    ended = kfadapter("upload", str(path))
    assert ended.code == ExitCode.USAGE
    assert "next:  pip install kfp\n" in ended.err


@pytest.mark.parametrize("there", [True, False])
def test_kfp_is_the_sdk_and_not_its_namespace(there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is looked for is the installed SDK by its distribution's name."""

    def distribution(name: str) -> str:
        if name == "kfp" and there:
            return name
        raise PackageNotFoundError

    monkeypatch.setattr(pipeline_file, "distribution", distribution)
    assert pipeline_file.kfp_is_installed() is there


def test_pipelines_are_found_by_their_decorators() -> None:
    """All ways to write the decorator count, other decorators and inner functions do not."""
    source = "@pipeline\ndef a(): ...\n@kfp.dsl.pipeline()\ndef b(): ...\n@dsl.component\ndef c(): ...\n"
    assert pipeline_functions(source) == ["a", "b"]


def test_payload_is_what_the_adapter_reads(kfadapter: Kfadapter, tmp_path: Path) -> None:
    """Metadata first, then the bytes in chunks; every line is a message of the contract."""
    body = bytes(range(256)) * 1000
    path = tmp_path / "p.zip"
    path.write_bytes(body)
    lines = kfadapter("-n", "team-a", "payload", str(path), "--tag", "k=v").out.splitlines()
    messages = [json_format.Parse(line, pb.UploadPipelineRequest()) for line in lines]
    first = messages[0].metadata
    assert (first.name, first.total_bytes, first.namespace) == ("p", len(body), "team-a")
    assert first.sha256 == hashlib.sha256(body).hexdigest()
    assert [message.WhichOneof("payload") for message in messages[1:]] == ["chunk"] * 4
    assert b"".join(message.chunk for message in messages[1:]) == body
