from __future__ import annotations

import base64
import hashlib
import json
import os
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import TYPE_CHECKING, get_args, get_type_hints

import pytest
import yaml
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st

from kfadapter.v1 import pipeline_pb2 as pb
from kfadapter_embedded.compile_file import commented
from kfadapter_grpc.cli import pipeline_file
from kfadapter_grpc.cli.errors import ExitCode
from kfadapter_grpc.cli.pipeline_file import default_name
from kfadapter_grpc.cli.upload import UploadOptions
from kfadapter_grpc.contract.call import Call
from kfadapter_grpc.contract.errors import PipelineExistsError
from kfadapter_grpc.contract.pipelines import IfExists
from kfadapter_grpc.upload.limits import UploadLimits
from kfadapter_grpc.upload.receive import receive_file

if TYPE_CHECKING:
    from tests.cli.conftest import Kfadapter
    from tests.client.fake_adapter import FakeAdapter

NULL_ERROR = "{path}: SyntaxError" if sys.version_info >= (3, 11, 4) else "ValueError"
"""What Python says of a file with a null byte; before 3.11.4 without the file."""
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
    """Returns the metadata of the last upload."""
    sent = fake.requests[-1]
    assert isinstance(sent, pb.UploadPipelineMetadata)
    return sent


def test_upload_reports_what_was_made(kfadapter: Kfadapter, file: Path) -> None:
    """The output names the pipeline and version, whether they are new, and the size."""
    first = kfadapter("upload", str(file))
    assert (first.code, first.err) == (0, "")
    fields = dict(line.split(maxsplit=1) for line in first.out.splitlines() if not line.startswith("Version id"))
    assert fields["Pipeline"] == "train (new)"
    assert fields["Version"] == "train (new)"
    assert (fields["Bytes"], fields["SHA-256"]) == ("5", hashlib.sha256(b"a: 1\n").hexdigest())
    assert "train (already there)" in kfadapter("upload", str(file), "--new-version").out
    named = kfadapter("upload", str(file), "-o", "name").out
    assert kfadapter("get", named.rstrip("\n"), "-o", "name").out == named == "train\n"


def test_the_same_bytes_make_no_new_version(kfadapter: Kfadapter, fake: FakeAdapter, file: Path) -> None:
    """A second upload reports the version with the bytes, and whether it is the latest; a flag or a name forces one."""
    kfadapter("upload", str(file))
    again = kfadapter("upload", str(file))
    same = "nothing was stored: version {} of train has the same bytes{}; --new-version stores it again\n"
    assert (again.code, again.err) == (0, same.format("train", ""))
    assert "train (already there with these bytes)" in again.out
    file.write_text("b: 2\n")
    assert kfadapter("upload", str(file)).err == ""
    file.write_text("a: 1\n")
    late = kfadapter("upload", str(file), "--tag", "a=b", "--description", "D")
    first, second = late.err.splitlines(keepends=True)
    assert first == same.format("train", ", though the latest version is 2")
    assert second.startswith("warning: --description, --tag was not stored; kfadapter update ")
    assert kfadapter("upload", str(file), "--new-version").err == ""
    assert kfadapter("upload", str(file), "--version-name", "named").err == ""
    assert [one.name for one in fake.versions["train"]] == ["train", "2", "3", "named"]


@pytest.mark.parametrize("choice", ["fail", "skip-if-same"])
def test_new_version_contradicts_other_choices(
    kfadapter: Kfadapter, fake: FakeAdapter, file: Path, choice: str
) -> None:
    """With another --if-exists, --new-version is a usage error; with the same it is not."""
    refused = kfadapter("upload", str(file), "--new-version", "--if-exists", choice)
    assert (refused.code, fake.calls) == (ExitCode.USAGE, [])
    assert f"--new-version contradicts --if-exists {choice}" in refused.err
    assert kfadapter("upload", str(file), "--new-version", "--if-exists", "new-version").code == 0
    assert metadata(fake).if_exists == pb.IF_EXISTS_NEW_VERSION


def test_upload_as_json(kfadapter: Kfadapter, file: Path) -> None:
    """With `-o json` the complete receipt is printed."""
    record = json.loads(kfadapter("upload", str(file), "--request-id", "r-1", "-o", "json").out)
    assert (record["pipeline"]["name"], record["version_created"], record["bytes"]) == ("train", True, 5)
    assert record["request_id"] == "r-1"


def test_upload_warns_of_what_was_not_kept(kfadapter: Kfadapter, fake: FakeAdapter, file: Path) -> None:
    """Options that KFP did not store are named in a warning on stderr and listed in the receipt."""
    fake.not_kept = ["tags", "code_source_url"]
    done = kfadapter("upload", str(file), "-o", "json")
    assert done.code == 0
    assert done.err.endswith("did not store --tag, --code-source-url\n")
    assert json.loads(done.out)["not_kept"] == ["tags", "code_source_url"]


@pytest.mark.parametrize("options", [[], ["--if-exists", "skip-if-same"], ["--request-id", "r-1"]])
def test_a_plain_second_upload_has_no_note(
    kfadapter: Kfadapter, fake: FakeAdapter, file: Path, options: list[str]
) -> None:
    """A skipped duplicate check is a warning only if an option requested the check."""
    fake.duplicate_check_skipped = True
    done = kfadapter("upload", str(file), *options)
    assert (done.code, bool(done.err)) == (0, bool(options))


def test_upload_sends_its_options(kfadapter: Kfadapter, fake: FakeAdapter, file: Path) -> None:
    """Each option is sent in the metadata."""
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
    """The option offers exactly the contract's choices."""
    offered, _ = get_args(get_type_hints(UploadOptions)["if_exists"])
    assert list(get_args(offered)) == [choice.value for choice in IfExists]


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
    """Only suffixes of pipeline files are removed."""
    assert default_name(Path(path)) == name


def test_a_refusal_is_reported(kfadapter: Kfadapter, fake: FakeAdapter, file: Path) -> None:
    """A rejected upload ends with the adapter's error."""
    fake.failures = [PipelineExistsError("a pipeline named 'train' exists")]
    ended = kfadapter("upload", str(file), "--if-exists", "fail")
    assert (ended.code, ended.out) == (ExitCode.REFUSED, "")
    assert f"next:  kfadapter --target {kfadapter.target} upload {file} --if-exists new-version\n" in ended.err


@pytest.mark.parametrize(
    ("arguments", "output"),
    [
        (["absent.yaml"], "not found: file"),
        (["."], "is a folder"),
        (["-"], "--name"),
        (["train.yaml", "--function", "f"], ".py files only"),
    ],
)
def test_what_cannot_be_uploaded(
    arguments: list[str], output: str, kfadapter: Kfadapter, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing file, a folder, and a stream without a name are usage errors."""
    monkeypatch.chdir(file.parent)
    ended = kfadapter("upload", *arguments)
    assert (ended.code, ended.out) == (ExitCode.USAGE, "")
    assert output in ended.err


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """A file with two pipelines."""
    path = tmp_path / "two.py"
    path.write_text(TWO_PIPELINES)
    return path


@pytest.mark.slow
@needs_kfp
def test_every_pipeline_of_a_file_is_uploaded(kfadapter: Kfadapter, fake: FakeAdapter, two: Path) -> None:
    """A .py with two pipelines is uploaded as two pipelines, each under its own name and with its own receipt."""
    ended = kfadapter("upload", str(two))
    assert (ended.code, ended.err, fake.calls) == (0, "", ["Upload", "Upload"])
    receipts = [receipt.splitlines()[0].split() for receipt in ended.out.split("\n\n")]
    assert receipts == [["Pipeline", "first-one", "(new)"], ["Pipeline", "second-one", "(new)"]]
    assert kfadapter("upload", str(two), "-o", "name").out == "first-one\nsecond-one\n"
    records = json.loads(kfadapter("upload", str(two), "--new-version", "-o", "json").out)
    assert [record["version"]["name"] for record in records] == ["2", "2"]


@pytest.mark.slow
@needs_kfp
def test_a_default_of_several_lines(kfadapter: Kfadapter, fake: FakeAdapter, tmp_path: Path) -> None:
    """A multi-line string default compiles to valid YAML: kfp copies its lines into the comment."""
    path = tmp_path / "prompt.py"
    path.write_text(
        "from kfp import dsl\n\n\n@dsl.component\ndef ask(prompt: str) -> int:\n    return len(prompt)\n\n\n"
        '@dsl.pipeline(name="prompt")\ndef prompt(prompt: str = "한 줄\\nAnswer: in *Korean*.\\x1b"):\n'
        "    ask(prompt=prompt)\n"
    )
    assert kfadapter("upload", str(path)).code == 0
    with receive_file([fake.content], UploadLimits(), total_bytes=None, sha256=None, call=Call("test", 60)):
        pass
    inputs = yaml.safe_load(fake.content)["root"]["inputDefinitions"]["parameters"]
    assert inputs["prompt"]["defaultValue"] == "한 줄\nAnswer: in *Korean*.\x1b"


@given(st.text(max_size=40))
def test_a_comment_is_nothing_but_a_comment(text: str) -> None:
    """Any text as a comment is YAML without content."""
    made = commented(text).encode()
    assert yaml.safe_load(made) is None


@pytest.mark.slow
@needs_kfp
def test_one_pipeline_of_a_file_is_uploaded(kfadapter: Kfadapter, fake: FakeAdapter, two: Path) -> None:
    """--function selects one pipeline, to which --name applies; its receipt is a single document."""
    record = json.loads(kfadapter("upload", str(two), "--function", "second", "-o", "json").out)
    assert record["pipeline"]["name"] == "second-one"
    assert kfadapter("upload", str(two), "--function", "first", "--name", "x", "-o", "name").out == "x\n"
    assert set(fake.pipelines) == {"second-one", "x"}


@pytest.mark.slow
@needs_kfp
def test_what_was_stored_is_reported_when_the_next_is_refused(
    kfadapter: Kfadapter, fake: FakeAdapter, two: Path
) -> None:
    """If the second of two uploads fails, the receipt of the first is still printed."""
    fake.add("second-one")
    fake.on_call = lambda: fake.failures.extend([PipelineExistsError("it exists")] * (len(fake.calls) == 2))
    ended = kfadapter("upload", str(two), "-o", "name")
    assert (ended.code, ended.out) == (ExitCode.REFUSED, "first-one\n")
    assert ended.err.startswith("error: it exists\n")


@needs_kfp
@pytest.mark.parametrize("arguments", [["upload", "--name", "x"], ["payload"]], ids=" ".join)
def test_what_is_for_one_pipeline_needs_a_function(
    arguments: list[str], kfadapter: Kfadapter, fake: FakeAdapter, two: Path
) -> None:
    """A single name or payload for two pipelines is a usage error that lists both and names --function."""
    ended = kfadapter(*arguments, str(two))
    assert (ended.code, ended.out, fake.calls) == (ExitCode.USAGE, "", [])
    assert "two.py holds 2 pipelines: first, second\n" in ended.err
    assert "--function first" in ended.err


@needs_kfp
def test_a_chosen_pipeline_is_compiled(kfadapter: Kfadapter, fake: FakeAdapter, two: Path) -> None:
    """A .py is compiled by kfp before it is sent, and leaves no files."""
    ended = kfadapter("payload", str(two), "--function", "second")
    assert ended.err == ""
    head, *chunks = map(json.loads, ended.out.splitlines())
    assert head["metadata"]["name"] == "second-one"
    content = b"".join(base64.b64decode(chunk["chunk"]) for chunk in chunks).decode()
    assert "name: second-one" in content
    assert list(two.parent.iterdir()) == [two]
    assert fake.calls == []


BESIDE = "from two import *\nfrom two import first as again\n"
COMPONENT = "from kfp import dsl\n\n@dsl.component\ndef alone() -> int:\n    return 1\n"


@needs_kfp
@pytest.mark.parametrize(
    ("source", "names"), [(BESIDE, ["first-one", "second-one"]), (COMPONENT, ["alone"])], ids=["imported", "component"]
)
def test_what_a_file_offers_is_found(source: str, names: list[str], kfadapter: Kfadapter, two: Path) -> None:
    """From a file without its own pipelines the imported ones are uploaded, each once, or else its component."""
    path = two.parent / "other file.py"
    path.write_text(source)
    assert kfadapter("upload", str(path), "-o", "name").out.split() == names


@needs_kfp
@pytest.mark.parametrize(
    ("source", "package"),
    [
        ("import no_such_module", "PACKAGE"),
        ("from kfp import no_such_part", "PACKAGE"),
        ("from kfp import kubernetes", "kfp-kubernetes"),
        ("import kfp.kubernetes.secret", "kfp-kubernetes"),
    ],
)
def test_a_package_that_a_py_needs_is_reported(source: str, package: str, kfadapter: Kfadapter, tmp_path: Path) -> None:
    """If an import fails, the next step installs the missing package; kfp's own extension is known by name."""
    path = tmp_path / "importing.py"
    path.write_text(f"import sys\nsys.modules['kfp.kubernetes'] = None\n{source}\n")
    ended = kfadapter("upload", str(path))
    assert ended.code == ExitCode.REFUSED
    assert f"\nnext:  pip install {package}\n       then the same command again; " in ended.err


@needs_kfp
@pytest.mark.parametrize(
    ("source", "why"),
    [
        (
            "x = 1\nraise RuntimeError('no good')\n",
            "{path}:2: RuntimeError: no good\n       raise RuntimeError('no good')",
        ),
        ("def f(:\n", "{path}:1: SyntaxError: invalid syntax\n       def f(:"),
        ("import no_such_module\n", "{path}:1: ModuleNotFoundError: No module named 'no_such_module'"),
        ("x = 1\0\n", f"why:   {NULL_ERROR}: source code string cannot contain null bytes"),
        ("raise ValueError('x' * 10_000)\n", "x…\n       raise ValueError('x' * 10_000)\n"),
        ("import sys\nsys.exit('enough')\n", "{path}:2: it ends the program while it is read: exit code enough"),
        ("x = 1\n", "no function in it is decorated with @dsl.pipeline"),
        (
            "import os\nprint('last words', flush=True)\nos._exit(7)\n",
            "without a result (exit code 7)\n       last words",
        ),
        (COMPONENT + "\n@dsl.pipeline\ndef p():\n    alone(x=1)\n", "{path}:9: TypeError: alone() got an unexpected"),
    ],
    ids=["raise", "syntax", "import", "null", "long", "exit", "none", "hard-exit", "pipeline"],
)
def test_a_py_that_cannot_be_compiled(
    source: str, why: str, kfadapter: Kfadapter, fake: FakeAdapter, tmp_path: Path
) -> None:
    """The error names the line in the user's own file and its problem, not a line in kfp."""
    path = tmp_path / "broken.py"
    path.write_text(source)
    ended = kfadapter("upload", str(path))
    assert (ended.code, ended.out, fake.calls) == (ExitCode.REFUSED, "", [])
    assert ended.err.startswith(f"error: {path} cannot be compiled\nwhy:   ")
    assert why.format(path=path) in ended.err
    assert "kfp/" not in ended.err
    assert list(tmp_path.iterdir()) == [path]


@needs_kfp
def test_an_unknown_function_is_reported_with_the_known_ones(kfadapter: Kfadapter, two: Path) -> None:
    """For an unknown --function the error lists the pipelines."""
    ended = kfadapter("upload", str(two), "--function", "third")
    assert ended.code == ExitCode.REFUSED
    assert "it has no pipeline 'third'; it has first, second" in ended.err
    assert ended.err.endswith(f" upload {two} --function first\n")


@needs_kfp
def test_what_a_file_prints_is_no_data(kfadapter: Kfadapter, two: Path) -> None:
    """Output of the file while it is imported does not appear in the command's output."""
    two.write_text("print('hello')\n" + TWO_PIPELINES)
    assert kfadapter("upload", str(two), "-o", "name").out == "first-one\nsecond-one\n"


@needs_kfp
def test_a_file_sees_no_arguments_but_its_own_name(kfadapter: Kfadapter, two: Path) -> None:
    """The file sees only its own name in sys.argv, and an empty stdin."""
    two.write_text(f"import sys\nassert sys.argv == [{str(two)!r}]\nassert not sys.stdin.read()\n{TWO_PIPELINES}")
    ended = kfadapter("upload", str(two), "-o", "name")
    assert (ended.code, ended.err) == (0, "")


@needs_kfp
def test_a_py_that_never_ends(kfadapter: Kfadapter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that never ends is stopped at the timeout, which the error names."""
    monkeypatch.setattr(pipeline_file, "COMPILE_SECONDS", 1.0)
    path = tmp_path / "endless.py"
    path.write_text("while True: pass\n")
    ended = kfadapter("upload", str(path))
    assert (ended.code, ended.out) == (ExitCode.TIMED_OUT, "")
    assert "was not compiled within 1 s" in ended.err
    assert "--timeout 5" in ended.err


@needs_kfp
def test_what_a_file_starts_ends_with_it(kfadapter: Kfadapter, two: Path, tmp_path: Path) -> None:
    """A background process started by the file is stopped after the compilation, so its pipe is closed."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    two.write_text(f"import os, time\nopen({str(pipe)!r}, 'w')\nheld = os.open({str(pipe)!r}, os.O_WRONLY)\n"
                   f"if os.fork() == 0:\n    time.sleep(600)\n{TWO_PIPELINES}")  # fmt: skip
    with os.fdopen(reader, "rb", 0) as end:
        os.set_blocking(reader, True)
        assert kfadapter("upload", str(two), "-o", "name").out == "first-one\nsecond-one\n"
        assert end.read() == b""


@needs_kfp
def test_only_the_end_of_the_output_of_a_file_is_shown(kfadapter: Kfadapter, tmp_path: Path) -> None:
    """A file that prints a lot runs to its end, and the error has the last line printed."""
    path = tmp_path / "chatty.py"
    path.write_text("import os\nfor _ in range(100): print('y' * 100_000)\nprint('z', flush=True)\nos._exit(7)\n")
    ended = kfadapter("upload", str(path))
    assert ended.err.splitlines()[-3].strip() == "z"
    assert len(ended.err) < 50_000


def test_without_kfp_a_py_reports_what_to_install(
    kfadapter: Kfadapter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without kfp the error names the command that installs it."""
    path = tmp_path / "one.py"
    path.write_text("x = 1\n")
    monkeypatch.setattr(pipeline_file, "kfp_is_installed", lambda: False)
    ended = kfadapter("upload", str(path))
    assert ended.code == ExitCode.USAGE
    assert "next:  pip install 'kfadapter-grpc[embedded]'\n" in ended.err


@pytest.mark.parametrize("there", [True, False])
def test_kfp_is_the_sdk_and_not_its_namespace(there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK kfp counts as installed if a distribution of that name is."""

    def distribution(name: str) -> str:
        if name == "kfp" and there:
            return name
        raise PackageNotFoundError

    monkeypatch.setattr(pipeline_file, "distribution", distribution)
    assert pipeline_file.kfp_is_installed() is there


def test_payload_is_what_the_adapter_reads(kfadapter: Kfadapter, tmp_path: Path) -> None:
    """The payload is metadata, then the bytes in chunks; every line is a message of the contract."""
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
