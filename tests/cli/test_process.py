from __future__ import annotations

import errno
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

import grpc
import pytest
from rich.cells import cell_len

from kfadapter.v1 import pipeline_pb2 as pb
from kfadapter_grpc.cli.errors import ExitCode
from kfadapter_grpc.cli.pipeline_file import kfp_is_installed
from kfadapter_grpc.contract.errors import InvalidFieldError
from kfadapter_grpc.version import running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.client.fake_adapter import FakeAdapter

PROGRAM = [sys.executable, "-c", "from kfadapter_grpc.cli import main; main()"]


def environment(target: str, **more: str) -> dict[str, str]:
    """The environment of a child: a target, UTF-8, and no variables that affect colors, size or gRPC's log."""
    foreign = {"NO_COLOR", "FORCE_COLOR", "TERM", "COLUMNS", "LINES", "GRPC_VERBOSITY"}
    kept = {key: value for key, value in os.environ.items() if key not in foreign}
    return {**kept, "KFADAPTER_TARGET": target, "TERM": "xterm", "PYTHONUTF8": "1", **more}


def run(target: str, *arguments: str, stdin: bytes = b"", **more: str) -> subprocess.CompletedProcess[bytes]:
    """Runs the command line in its own process, with pipes for all streams."""
    return subprocess.run(
        [*PROGRAM, *arguments],
        input=stdin,
        capture_output=True,
        env=environment(target, **more),
        timeout=60,
        check=False,
    )


@contextmanager
def started(
    target: str, *arguments: str, stdin: IO[bytes] | int = subprocess.DEVNULL
) -> Iterator[subprocess.Popen[bytes]]:
    """Starts the command line in its own process, and kills it at the end."""
    process = subprocess.Popen(
        [*PROGRAM, *arguments],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(target),
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def in_terminal(
    target: str, *arguments: str, typed: bytes = b"", program: str = PROGRAM[-1], **more: str
) -> tuple[int, bytes]:
    """Runs the command line with a terminal for all streams; returns the exit code and the terminal's output."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment(target, **{"COLUMNS": "80", **more}),
    )
    os.close(theirs)
    os.write(ours, typed)
    seen = b"".join(_until_closed(ours))
    os.close(ours)
    return process.wait(60), seen


def _until_closed(terminal: int) -> Iterator[bytes]:
    """Reads a terminal until the last process on its other side has ended."""
    while True:
        try:
            piece = os.read(terminal, 65536)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return
        if not piece:
            return
        yield piece


def test_version_needs_no_command() -> None:
    """`--version` alone prints the versions that matter for a bug report: the program, Python and libraries."""
    done = run("", "--version")
    assert (done.returncode, done.stderr) == (ExitCode.OK, b"")
    assert dict(line.split(" ", 1) for line in done.stdout.decode().splitlines()) == running()


def test_all_commands_can_be_loaded_without_the_extras() -> None:
    """If only the client is installed, every command can be loaded, so that it can say what it requires."""
    extras = "structlog msgspec grpc_reflection httptools kfp_server_api urllib3 kfp starlette uvicorn python_multipart"
    program = (
        "import importlib, pkgutil, sys\n"
        f"sys.modules.update(dict.fromkeys({extras.split()!r}))\n"
        "import kfadapter_grpc.cli as cli\n"
        "names = [module.name for module in pkgutil.walk_packages(cli.__path__, cli.__name__ + '.')]\n"
        "print(len([importlib.import_module(name) for name in names]) > 10)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "True\n"


@pytest.mark.parametrize(
    ("columns", "first", "second"),
    [
        ("100", ["NAME", "ID", "CREATED", "DESCRIPTION"], "what it is for .*…"),
        ("64", ["NAME", "ID", "CREATED", "DESCRIPTION"], "what it is.*…"),
        ("50", ["NAME", "ID", "CREATED", "…"], ""),
    ],
)
def test_names_stay_whole_in_a_narrow_terminal(
    columns: str, first: list[str], second: str, target: str, fake: FakeAdapter
) -> None:
    """The ids are shortened first, then the description is cut, with a mark; names stay whole."""
    pipeline = fake.add("training-of-models-1", description="what it is for " * 5)
    head, row = in_terminal(target, "list", COLUMNS=columns, NO_COLOR="1")[1].decode().splitlines()
    assert head.split() == first
    assert re.fullmatch(rf"training-of-models-1   {pipeline.pipeline_id[:8]}   \d+d ago *{second}", row)
    assert max(len(head), len(row)) <= int(columns)


def test_a_terminal_without_space_for_columns_gets_blocks(target: str, fake: FakeAdapter) -> None:
    """At 40 columns each pipeline, and each parameter, is a complete block of lines."""
    spec = pb.PipelineSpecSummary(
        parameters=[pb.Parameter(name="a_rather_long_parameter", description="what it is for " * 5)]
    )
    fake.add("training-of-models-1", spec, description="what it is for " * 5)
    fake.add("second")
    for arguments, first in ((["list"], "NAME"), (["get", "training-of-models-1"], "PARAMETER")):
        shown = in_terminal(target, *arguments, COLUMNS="40", NO_COLOR="1")[1].decode()
        assert max(map(len, shown.splitlines())) <= 40
        blocks = [block.split() for block in shown.split("\r\n\r\n")]
        assert len(blocks) == 2
        assert blocks[arguments[0] == "get"][0] == first
        assert shown.split().count("for") >= 5
        assert "…" not in shown


@pytest.mark.slow
@pytest.mark.parametrize("columns", [100, 60, 40, 25])
def test_a_pipeline_fits_into_the_terminal(columns: int, target: str, fake: FakeAdapter) -> None:
    """No line of a pipeline is wider than the terminal, even with wide characters, or has trailing spaces."""
    spec = pb.PipelineSpecSummary(
        parameters=[pb.Parameter(name="긴_이름의_매개변수", type=pb.PARAMETER_TYPE_STRUCT, description="설명 " * 30)],
        tasks=[pb.Task(name="데이터를-만든다", condition="손실 < 1 " * 8, tasks=[pb.Task(name="학습-" * 20)])],
    )
    fake.add("훈련", spec, description="모델을 학습한다 " * 10)
    fake.add_version("훈련", "두 번째 버전", spec)
    for more in ((), ("--version", "두 번째 버전")):
        lines = in_terminal(target, "get", "훈련", *more, COLUMNS=str(columns), NO_COLOR="1")[1].decode().splitlines()
        assert len(lines) > 10
        reported = [line for line in lines if "kfadapter " not in line]
        assert [line for line in reported if cell_len(line) > columns] == []
        assert [line for line in lines if line != line.rstrip()] == []


def test_help_loads_neither_grpc_nor_rich() -> None:
    """The help is fast: large libraries are loaded only by the commands that need them."""
    program = (
        "import sys\n"
        "from kfadapter_grpc.cli.app import app\n"
        "try:\n"
        "    app(['--help'])\n"
        "except SystemExit:\n"
        "    print('loaded:', sorted({'grpc', 'rich', 'google.protobuf', 'yaml'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.endswith("loaded: []\n")


def test_head_ends_it_quietly(target: str, fake: FakeAdapter) -> None:
    """A reader that closes the pipe early is not an error: no traceback, no message, exit code 0."""
    for number in range(50):
        fake.add(f"{number}-{'x' * 5000}")
    with started(target, "list", "-o", "name") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(b"0-")
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == ExitCode.OK


@pytest.mark.slow
def test_no_escape_codes_into_pipes(target: str, fake: FakeAdapter) -> None:
    """Without a terminal neither data nor errors contain escape codes, whatever the environment says."""
    fake.add("train")
    for arguments in (["get", "train"], ["list"], ["get", "absent"]):
        done = run(target, *arguments, FORCE_COLOR="1", CLICOLOR_FORCE="1")
        assert b"\x1b" not in done.stdout + done.stderr


@pytest.mark.slow
def test_a_terminal_gets_style_unless_no_color(target: str, fake: FakeAdapter) -> None:
    """The header of a table is bold in a terminal, and plain if NO_COLOR is set."""
    fake.add("train")
    assert b"\x1b[1mNAME" in in_terminal(target, "list")[1]
    assert b"\x1b" not in in_terminal(target, "list", NO_COLOR="1")[1]


def test_names_cannot_steer_a_terminal(target: str, fake: FakeAdapter) -> None:
    """A terminal gets the control characters of a name escaped; a pipe gets the name unchanged."""
    fake.add("\x1b[2Jtrain")
    assert b"\\x1b[2Jtrain" in in_terminal(target, "list", "-o", "name")[1]
    assert run(target, "list", "-o", "name").stdout == b"\x1b[2Jtrain\n"


@pytest.mark.slow
def test_a_terminal_without_utf8_gets_ascii(target: str, fake: FakeAdapter, tmp_path: Path) -> None:
    """With an ASCII encoding nothing fails: Korean is escaped, and JSON stays valid."""
    fake.add("훈련", description="설명")
    for style in ("table", "json", "yaml", "name"):
        done = run(target, "get", "훈련", "-o", style, PYTHONUTF8="0", PYTHONIOENCODING="ascii")
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout.isascii()
        assert rb"\ud6c8" in done.stdout.lower()
    file = tmp_path / "train.yaml"
    file.write_bytes(b"a: 1\n" * 200_000)
    code, seen = in_terminal(target, "upload", str(file), PYTHONUTF8="0", PYTHONIOENCODING="ascii")
    assert (code, seen.isascii()) == (0, True)


def test_arguments_are_utf8_in_any_locale(target: str, fake: FakeAdapter, tmp_path: Path) -> None:
    """Korean names and paths work in an ASCII locale."""
    fake.add("한글 파이프라인")
    (tmp_path / "훈련.yaml").write_bytes(b"a: 1\n")
    for arguments in (["get", "한글 파이프라인"], ["upload", str(tmp_path / "훈련.yaml")]):
        done = run(target, *arguments, "-o", "json", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
        assert (done.returncode, done.stderr) == (ExitCode.OK, b"")
    assert json.loads(done.stdout)["pipeline"]["name"] == "훈련"


def test_an_argument_that_is_no_text_is_a_usage_error(target: str) -> None:
    """Bytes that are not UTF-8 cannot be a name, and are a usage error."""
    done = run(target, "get", "caf\udce9")
    assert (done.returncode, done.stdout) == (ExitCode.USAGE, b"")
    assert _parts(done.stderr) == ["error", "why", "next"]


@pytest.mark.parametrize("arguments", [["list"], ["list", "-o", "name"], ["--help"], ["--version"]])
@pytest.mark.parametrize("redirection", [">&-", ">/dev/full"])
def test_output_that_cannot_be_written_is_reported(
    arguments: list[str], redirection: str, target: str, fake: FakeAdapter
) -> None:
    """A closed stdout and a full disk are errors with exit code 8, without further messages from Python."""
    for number in range(20):
        fake.add(f"{number}-{'x' * 5000}")
    done = subprocess.run(
        ["sh", "-c", f'"$@" {redirection}', "sh", *PROGRAM, *arguments],
        capture_output=True,
        env=environment(target),
        timeout=60,
        check=False,
    )
    assert done.returncode == ExitCode.REFUSED
    assert [part for part in _parts(done.stderr) if not part.startswith(" ")] == ["error", "why", "next"]


@pytest.mark.slow
@pytest.mark.parametrize("redirection", ["2>&-", "<&-"])
def test_other_closed_streams_do_no_harm(redirection: str, target: str, fake: FakeAdapter) -> None:
    """Without stdin or stderr a command works, and its exit code is right."""
    fake.add("train")
    for name, code in (("train", ExitCode.OK), ("absent", ExitCode.NOT_FOUND)):
        done = subprocess.run(
            ["sh", "-c", f'"$@" {redirection}', "sh", *PROGRAM, "delete", name, "-o", "name"],
            capture_output=True,
            env=environment(target),
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stdout) == (code, b"train\n" if name == "train" else b"")


def _parts(stderr: bytes) -> list[str]:
    """Returns the first words of the lines of an error."""
    return [line.partition(":")[0] for line in stderr.decode().splitlines()]


@pytest.mark.slow
def test_progress_is_for_terminals(target: str, tmp_path: Path) -> None:
    """A terminal shows a progress bar during an upload, a pipe does not."""
    file = tmp_path / "train.yaml"
    file.write_bytes(b"a: 1\n" * 200_000)
    assert b"train" in in_terminal(target, "upload", str(file))[1].partition(b"Pipeline")[0]
    assert run(target, "upload", str(file), "--new-version").stderr == b""


def test_the_log_of_grpc_is_not_mixed_in() -> None:
    """A server without a health service is an error in three parts, without lines of gRPC's log."""
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        assert _parts(run(f"127.0.0.1:{port}", "list").stderr) == ["error", "why", "next"]
    finally:
        server.stop(None).wait()


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["yaml", "py"])
def test_a_file_name_does_not_steer_the_terminal(ending: str, target: str, tmp_path: Path) -> None:
    """A control character in a file's name is escaped while the file is compiled and sent."""
    file = tmp_path / f"\x1b[41mred.{ending}"
    file.write_text("a: 1\n")
    seen = in_terminal(target, "upload", str(file))[1]
    assert b"\\x1b[41mred" in seen
    assert b"\x1b[41m" not in seen


def test_stdin_is_uploaded(target: str, fake: FakeAdapter) -> None:
    """`-` uploads stdin."""
    done = run(target, "upload", "-", "--name", "piped", "-o", "name", stdin=b"a: 1\n" * 100_000)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"piped\n", b"")
    assert sum(fake.chunks) == 500_000


def test_an_endless_stdin_does_not_outlive_a_refusal(target: str, fake: FakeAdapter) -> None:
    """If the adapter rejects an upload while stdin is still open, the command ends immediately."""
    fake.failures = [InvalidFieldError.of("metadata.name", "is not allowed")]
    with started(target, "upload", "-", "--name", "x", stdin=subprocess.PIPE) as process:
        assert process.wait(60) == ExitCode.REFUSED
        assert process.stderr is not None
        assert process.stderr.read().startswith(b"error: metadata.name: is not allowed")


def test_ctrl_c_ends_a_waiting_call(target: str, fake: FakeAdapter) -> None:
    """Ctrl-C during a call ends with exit code 130 and without a traceback."""
    fake.hold.clear()
    arrived = threading.Event()
    fake.on_call = arrived.set
    with started(target, "get", "x") as process:
        assert arrived.wait(60)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == ExitCode.INTERRUPTED
        assert process.stderr is not None
        assert b"Traceback" not in process.stderr.read()


@pytest.mark.skipif(not kfp_is_installed(), reason="kfp is not installed")
def test_ctrl_c_ends_a_compilation(target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends a .py that never ends, and the processes it started; no file is left."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    pipe, file = tmp_path / "pipe", tmp_path / "endless.py"
    os.mkfifo(pipe)
    file.write_text(
        "import subprocess\n"
        f"pipe = open({str(pipe)!r}, 'w')\n"
        "other = subprocess.Popen(['sleep', '1000'], stdout=pipe)\n"
        "print('here', file=pipe, flush=True)\n"
        "while True: pass\n"
    )
    with started(target, "upload", str(file)) as process, pipe.open() as reader:
        assert reader.readline() == "here\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == ExitCode.INTERRUPTED
        assert reader.read() == ""  # no process holds the other end any more
    assert sorted(tmp_path.iterdir()) == [file, pipe]


@pytest.mark.parametrize(("answer", "code", "left"), [(b"y\n", ExitCode.OK, 0), (b"n\n", ExitCode.CANCELLED, 1)])
def test_a_terminal_is_prompted_before_a_deletion(
    answer: bytes, code: ExitCode, left: int, target: str, fake: FakeAdapter
) -> None:
    """In a terminal the confirmation names the number of versions, and only yes deletes."""
    fake.add("train")
    ended, seen = in_terminal(target, "delete", "train", typed=answer)
    assert (ended, len(fake.pipelines)) == (code, left)
    assert b"Delete the pipeline 'train' with 1 version?" in seen


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), ("--version", "train")], ids=["pipeline", "version"])
def test_an_unconfirmed_deletion_deletes_nothing(more: tuple[str, ...], target: str, fake: FakeAdapter) -> None:
    """Ctrl-D at the confirmation means no: exit code 7, and no delete request is sent."""
    fake.add("train")
    ended, seen = in_terminal(target, "delete", "train", *more, typed=b"\x04")
    assert (ended, b"Traceback" in seen, "train" in fake.pipelines) == (ExitCode.CANCELLED, False, True)
    assert not {"Delete", "DeleteVersion"} & {*fake.calls}


def test_ctrl_c_at_a_question(target: str, fake: FakeAdapter) -> None:
    """Ctrl-C at the confirmation ends with exit code 130."""
    fake.add("train")
    program = (
        "import builtins\n"
        "def interrupted(*_):\n"
        "    raise KeyboardInterrupt\n"
        "builtins.input = interrupted\n"
        "from kfadapter_grpc.cli import main\n"
        "main()"
    )
    ended, seen = in_terminal(target, "delete", "train", program=program)
    assert (ended, b"version?" in seen, b"Traceback" in seen) == (ExitCode.INTERRUPTED, True, False)
    assert "train" in fake.pipelines


def test_yes_skips_the_confirmation(target: str, fake: FakeAdapter) -> None:
    """There is no confirmation with --yes, nor if the adapter would reject the deletion anyway."""
    fake.add("train")
    fake.add_version("train", "2")
    ended, seen = in_terminal(target, "delete", "train")
    assert (ended, b"?" in seen) == (ExitCode.REFUSED, False)
    assert in_terminal(target, "delete", "train", "--yes", "--force")[0] == ExitCode.OK
    assert fake.pipelines == {}


def test_one_command_is_one_call(target: str, fake: FakeAdapter) -> None:
    """One command is one call to the adapter."""
    fake.add("train")
    run(target, "get", "train")
    assert fake.calls == ["Get"]
    assert isinstance(fake.requests[0], pb.GetPipelineRequest)
