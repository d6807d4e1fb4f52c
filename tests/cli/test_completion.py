from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from tests.cli.fake_runs import FakeRuns, serving_all
from tests.cli.test_process import PROGRAM, environment
from typer.testing import CliRunner

from kfadapter.v1 import pipeline_pb2 as pb
from kfadapter_grpc.cli import completion, references
from kfadapter_grpc.cli.app import app

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.client.fake_adapter import FakeAdapter

PATIENT = "from kfadapter_grpc.cli import completion, main; completion.SECONDS = 60.0; main()"
"""The program, which also on a busy machine waits until the adapter has answered."""
SPELLING: dict[str, Callable[[str], str]] = {
    "bash": lambda name: name.replace(" ", "\\ "),
    "zsh": lambda name: '"{}"'.format(name.replace(":", r"\\:")),
    "fish": lambda name: name,
}
SHELLS = tuple(SPELLING)


def asking(shell: str, *words: str) -> dict[str, str]:
    """The variables of a shell's completion, with the cursor after the last word; bash splits at `:` and `=`."""
    pieces = ["kfadapter", *(piece for word in words for piece in re.split("([:=]+)", word) if piece)]
    return {
        "_KFADAPTER_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": "\n".join(pieces),
        "COMP_CWORD": str(len(pieces) - 1),
        "_TYPER_COMPLETE_ARGS": " ".join(("kfadapter", *words)),
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }


def complete(target: str, shell: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs a completion in a process, as a shell does."""
    return subprocess.run(
        [sys.executable, "-c", "from kfadapter_grpc.cli import main; main()"],
        capture_output=True,
        text=True,
        env=environment(target, **asking(shell, *words)),
        timeout=100,
        check=False,
    )


def offered(target: str, shell: str, *words: str) -> list[str]:
    """Returns the names offered to a shell, and asserts that nothing else is printed. Runs in this process."""
    variables = {"KFADAPTER_TARGET": target, **asking(shell, *words)}
    completion.join_bash_words(variables)
    done = CliRunner(env={"GRPC_VERBOSITY": None, **variables}).invoke(
        app, prog_name="kfadapter", catch_exceptions=False
    )
    assert (done.exit_code, done.stderr) == (0, "")
    lines = done.stdout.split("\n")[:-1]
    if shell == "zsh":
        return [] if lines == ["_files"] else "\n".join(lines)[len("_arguments '*: :((") : -len("))'")].split("\n")
    return [line for line in lines if line]


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits for the adapter's response on a busy machine, too."""
    monkeypatch.setattr(completion, "SECONDS", 60.0)


@pytest.fixture
def stocked(fake: FakeAdapter, target: str) -> str:
    """The address of an adapter with some pipelines."""
    for name in ("train", "train-2", "my train", "훈련", "훈련 2", "a:b"):
        fake.add(name)
    fake.add_version("train", "v2 beta")
    fake.add_version("train", "v1")
    return target


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("word", "names"), [("tr", ["train", "train-2"]), ("x", []), ("훈", ["훈련", "훈련 2"]), ("a", ["a:b"])]
)
def test_names_of_pipelines(shell: str, word: str, names: list[str], stocked: str) -> None:
    """Names that start with the typed text are offered, quoted for each shell."""
    assert offered(stocked, shell, "get", word) == [SPELLING[shell](name) for name in names]


@pytest.mark.parametrize("words", ["versions", "delete", "download", "graph", "upload x.yaml --name"])
def test_every_command_that_takes_a_name(words: str, stocked: str) -> None:
    """Every command that takes a pipeline's name completes it."""
    assert offered(stocked, "bash", *words.split(), "train-") == ["train-2"]


@pytest.mark.slow
@pytest.mark.parametrize("shell", SHELLS)
def test_names_of_versions(shell: str, stocked: str) -> None:
    """`--version` offers the versions of the pipeline that precedes it."""
    assert offered(stocked, shell, "download", "train", "--version", "v1") == [SPELLING[shell]("v1")]
    assert offered(stocked, shell, "graph", "absent", "--version", "v") == []
    assert offered(stocked, shell, "graph", "--version", "v") == []


@pytest.mark.slow
def test_bash_continues_after_a_colon(target: str, fake: FakeAdapter) -> None:
    """In bash a colon ends a word, so the text before it is not offered again."""
    for name in ("team:train:a", "team:train b", "other"):
        fake.add(name)
    assert offered(target, "bash", "get", "te") == ["team:train:a", r"team:train\ b"]
    assert offered(target, "bash", "get", "team:tr") == ["train:a", r"train\ b"]
    assert offered(target, "bash", "get", "team:") == ["train:a", r"train\ b"]
    assert offered(target, "bash", "get", "team:train:") == ["a"]


@pytest.mark.slow
def test_bash_gets_what_can_be_pasted(stocked: str) -> None:
    """A space is escaped, also if it was typed escaped; within quotes it is unchanged."""
    assert offered(stocked, "bash", "get", "my") == [r"my\ train"]
    assert offered(stocked, "bash", "get", r"my\ t") == [r"my\ train"]
    assert offered(stocked, "bash", "get", "'my t") == ["my train"]
    assert offered(stocked, "bash", "graph", "train", "--version", "v2") == [r"v2\ beta"]


@pytest.mark.slow
@pytest.mark.parametrize("shell", SHELLS)
def test_a_name_that_could_steer_a_shell_is_not_offered(shell: str, target: str, fake: FakeAdapter) -> None:
    """A pipeline name cannot make the shell run a command, nor write to the terminal."""
    for name in (r"\$(id)", "`id`", "$(id)", 'a"b', "a'b", "a\nb", "a\x1b[2Jb", "y"):
        fake.add(f"x{name}")
    assert offered(target, shell, "get", "x") == [SPELLING[shell]("xy")]


@pytest.mark.parametrize("shell", ["zsh", "fish"])  # for bash the last word is already typed here, and is completed
def test_a_name_that_looks_like_an_option_is_not_offered(shell: str, target: str, fake: FakeAdapter) -> None:
    """A name that would be read as an option when completed is not offered."""
    fake.add("--force")
    fake.add("force")
    assert offered(target, shell, "delete", "") == [SPELLING[shell]("force")]


@pytest.mark.slow
def test_the_line_decides_which_adapter_is_called(stocked: str, fake: FakeAdapter) -> None:
    """--target and --namespace apply before and after the command, and take precedence over the environment."""
    for words in (
        ("--target", stocked, "--namespace", "team-a", "get", "tr"),
        ("get", "--target", stocked, "-n", "team-a", "tr"),
        ("-n", "x", "get", f"--target={stocked}", "--namespace=team-a", "tr"),
    ):
        assert offered("127.0.0.1:1", "bash", *words) == ["train", "train-2"]
        sent = fake.requests[-1]
        assert isinstance(sent, pb.ListPipelinesRequest)
        assert (sent.namespace, sent.name_contains) == ("team-a", "tr")


def test_no_id_is_offered_a_name(stocked: str, fake: FakeAdapter) -> None:
    """After --id no names are requested."""
    assert offered(stocked, "bash", "get", "--id", "tr") == []
    assert fake.calls == []


@pytest.mark.slow
@pytest.mark.parametrize("shell", SHELLS)
def test_completion_without_an_adapter_is_silent(shell: str) -> None:
    """If the adapter is unreachable, completion offers nothing, prints nothing and does not fail."""
    done = complete("127.0.0.1:1", shell, "get", "tr")
    assert (done.returncode, done.stdout.strip().removeprefix("_files"), done.stderr) == (0, "", "")


@pytest.mark.slow
def test_a_silent_adapter_is_not_waited_for(stocked: str, fake: FakeAdapter) -> None:
    """Completion gives up on an adapter that does not respond within a second."""

    def hold() -> None:
        fake.hold.wait(30)

    fake.on_call = hold
    fake.hold.clear()
    done = complete(stocked, "bash", "get", "tr")
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")


def test_no_more_names_than_can_be_read(target: str, fake: FakeAdapter) -> None:
    """At most fifty names are offered."""
    for number in range(60):
        fake.add(f"p{number:02}")
    assert offered(target, "bash", "get", "p") == [f"p{number:02}" for number in range(50)]


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_can_be_shown(shell: str) -> None:
    """`--show-completion SHELL` prints the completion script."""
    done = subprocess.run(
        [*PROGRAM, "--show-completion", shell],
        capture_output=True,
        text=True,
        env=environment("", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1"),
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert f"_KFADAPTER_COMPLETE=complete_{shell}" in done.stdout


@pytest.mark.slow
def test_bash_completes(stocked: str, tmp_path: Path) -> None:
    """A real bash with the printed script completes the line."""
    program = tmp_path / "kfadapter"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{PATIENT}" "$@"\n')
    program.chmod(0o755)
    script = (
        "source <(_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION=1 kfadapter --show-completion bash)\n"
        "COMP_WORDS=(kfadapter get 훈) COMP_CWORD=2\n"
        '_kfadapter_completion kfadapter; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    path = f"{tmp_path}:/usr/bin:/bin"
    done = subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        text=True,
        env=environment(stocked, PATH=path),
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("훈련\n훈련\\ 2\n", "")


def test_runs(fake: FakeAdapter) -> None:
    """Runs are offered as the newest ones, by name and by id; after a colon the pipelines."""
    fake.add("train")
    runs = FakeRuns()
    ids = [runs.add(name).run_id for name in ("훈련 1", "훈련 2", "훈련 2")]
    with serving_all(fake, runs) as target:
        assert offered(target, "fish", "runs", "show", "") == ["@latest", "@failed", "훈련 2", "훈련 1", *reversed(ids)]
        assert offered(target, "bash", "watch", "@l") == ["@latest"]
        assert offered(target, "fish", "logs", "@failed:t") == ["@failed:train"]
        assert offered(target, "bash", "logs", "@failed:t") == ["train"]
        assert offered(target, "fish", "terminate", ids[0][:-1])[-1] == ids[0]


def test_a_search_that_ends_is_silent(monkeypatch: pytest.MonkeyPatch, fake: FakeAdapter) -> None:
    """While a line is completed, no note reports that a run was looked for among the newest only."""
    monkeypatch.setattr(references, "SEARCHED", 1)
    runs = FakeRuns()
    for _ in range(3):
        runs.add("r")
    with serving_all(fake, runs) as target:
        assert offered(target, "fish", "artifacts", "get", "abcdef", "") == []
        assert runs.requests
