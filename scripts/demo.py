"""Runs the main job against its own servers, each step as a user would type it and as grpcurl would call it."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

from kfadapter_grpc.methods import METHODS

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = str(Path(sys.executable).parent.relative_to(ROOT) / "kfadapter")
START_SECONDS = 30.0
STOP_SECONDS = 15.0
NAME = "train"
RUN = "RUN"
LOG = "log"


class DemoError(Exception):
    """The demo cannot continue; the message has the reason."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the main job.

    Attributes:
        title: What it does.
        arguments: The command line, without the program.
        method: The called RPC.
        body: The request as JSON, or the arguments of `kfadapter payload` that print it; RUN is the newest run.
        service: The service of the RPC.
        code: The exit code of the command.
    """

    title: str
    arguments: tuple[str, ...]
    method: str
    body: str | tuple[str, ...]
    service: str = "PipelineService"
    code: int = 0


STEPS = (
    Step(
        "Stream a compiled pipeline up",
        ("upload", "examples/train.yaml"),
        "Upload",
        ("payload", "examples/train.yaml"),
    ),
    Step(
        "Stream a second version up; it has one more parameter",
        ("upload", "examples/train_v2.yaml", "--name", NAME, "--description", "stops early"),
        "Upload",
        ("payload", "examples/train_v2.yaml", "--name", NAME, "--description", "stops early"),
    ),
    Step("Get it by name, with its parameters", ("get", NAME), "Get", f'{{"name":"{NAME}","view":"VIEW_FULL"}}'),
    Step("List its versions", ("versions", NAME), "ListVersions", f'{{"name":"{NAME}"}}'),
    Step(
        "Run it, with parameters of their declared types, and watch it to its end",
        ("run", NAME, "-p", "dataset_seed=7", "-p", "layers=[8, 4]", "--watch"),
        "Create",
        f'{{"pipeline_name":"{NAME}","parameters":{{"dataset_seed":7,"layers":[8,4]}}}}',
        "RunService",
    ),
    Step(
        "Show the run with its metric, the loss of the task fit",
        ("runs", "show", "@latest"),
        "Get",
        f'{{"run_id":"{RUN}","view":"VIEW_FULL"}}',
        "RunService",
    ),
    Step(
        "Run it so that it fails: there are no rows; exit code 1, and why",
        ("run", NAME, "-p", "dataset_seed=7", "-p", "rows=0", "--watch"),
        "Watch",
        f'{{"runs":{{"run_ids":["{RUN}"]}},"tasks":true}}',
        "RunService",
        code=1,
    ),
    Step("Delete it", ("delete", NAME, "--force", "--yes"), "Delete", f'{{"name":"{NAME}","force":true}}'),
)


class Servers:
    """An embedded KFP and an adapter, started as by a user, on free ports.

    Attributes:
        folder: The folder of their data and log.
        banner: Their output once ready.
        target: The adapter's address.
        pid: The process id.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="kfadapter-demo-"))
        self._process = self._start()
        self.pid = self._process.pid
        self.banner = self._read_banner()
        try:
            self.target = _target(self.banner)
        except DemoError:
            text = (self.folder / LOG).read_text()
            self.stop()
            raise DemoError(text) from None

    def stop(self) -> None:
        """Stops both servers and removes their data."""
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self.folder)

    def _start(self) -> subprocess.Popen[str]:
        command = [PROGRAM, "dev", "--port", "0", "--kfp-port", "0", "--data", str(self.folder / "data")]
        with (self.folder / LOG).open("wb") as log:
            return subprocess.Popen(  # noqa: S603  the project's own program
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,  # Ctrl-C is for the demo, which then stops the servers in order
            )

    def _read_banner(self) -> list[str]:
        """Waits for the banner, which ends with the line about how to stop; incomplete if the output ends."""
        lines: list[str] = []
        timer = threading.Timer(START_SECONDS, self._process.kill)
        timer.start()
        for line in self._process.stdout or ():
            lines.append(line.rstrip("\n"))
            if line.startswith("stop "):
                break
        timer.cancel()
        return lines


def main() -> int:
    """Runs the demo; returns the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/demo", description="Shows the main job on this machine.")
    parser.add_argument("--keep", action="store_true", help="leave the servers running at the end")
    keep = parser.parse_args().keep
    os.chdir(ROOT)
    try:
        _demonstrate(keep=keep)
    except DemoError as error:
        sys.stderr.write(f"demo: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _demonstrate(*, keep: bool) -> None:
    _say("Starting an embedded Kubeflow Pipelines and the adapter ...")
    servers = Servers()
    try:
        _say(*(f"  {line}" for line in servers.banner if not line.startswith(("try", "stop"))))
        for number, step in enumerate(STEPS, 1):
            _show(number, step, servers.target)
    except BaseException:
        servers.stop()
        raise
    if keep:
        _say_how_to_reach(servers)
    else:
        servers.stop()
        _say("", "Done. The servers are stopped and their data removed; --keep would leave them running.")


def _show(number: int, step: Step, target: str) -> None:
    """Prints a step, runs it, and prints the same call with grpcurl."""
    typed = [PROGRAM, "--target", target, *step.arguments]
    _say("", f"{number}. {step.title}", f"$ {shlex.join(typed)}")
    done = subprocess.run(typed, stdin=subprocess.DEVNULL, check=False)  # noqa: S603  the project's own program
    if done.returncode != step.code:
        message = f"step {number} ended with exit code {done.returncode}, not {step.code}"
        raise DemoError(message)
    run = _newest_run(target) if isinstance(step.body, str) and f'"{RUN}"' in step.body else ""
    _say("The same with grpcurl:", f"$ {grpcurl(step, target, run)}")


def _newest_run(target: str) -> str:
    """Gets the id of the newest run."""
    typed = [PROGRAM, "--target", target, "runs", "--limit", "1", "-o", "name"]
    return subprocess.run(typed, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603  our own


def grpcurl(step: Step, target: str, run: str = "") -> str:
    """Returns the command that makes the same call without this project's client."""
    method = rpc_path(step)
    if isinstance(step.body, tuple):
        return f"{shlex.join([PROGRAM, *step.body])} | grpcurl -plaintext -d @ {target} {method}"
    return f"grpcurl -plaintext -d {shlex.quote(step.body.replace(RUN, run))} {target} {method}"


def rpc_path(step: Step) -> str:
    """Returns the full name of the RPC that a step calls."""
    wanted = f".{step.service}/{step.method}"
    (path,) = (path for path in METHODS if path.endswith(wanted))
    return path.removeprefix("/")


def _say_how_to_reach(servers: Servers) -> None:
    _say(
        "",
        "The servers are still running (--keep).",
        *(f"  {line}" for line in servers.banner if not line.startswith(("try", "stop"))),
        f"  try      {PROGRAM} --target {servers.target} upload examples/train.yaml",
        f"  log      {servers.folder / LOG}",
        f"  stop     kill {servers.pid}; rm -r {servers.folder}",
    )


def _target(banner: list[str]) -> str:
    """Extracts the adapter's address from the banner.

    Raises:
        DemoError: The servers did not start.
    """
    for line in banner:
        if line.startswith("adapter "):
            return line.split()[1]
    message = "the servers did not start"
    raise DemoError(message)


def _say(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
