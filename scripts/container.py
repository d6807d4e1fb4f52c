"""A container without an engine: built from the Dockerfile, its root in a folder, its commands run in there.

Whoever calls this is in namespaces of mounts and processes that end with them.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.dockerfile import Instruction, Stage, parse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = Path(__file__).resolve().parent.parent
PYTHON = Path(sys.base_prefix)
BASE_PATH = f"{PYTHON}/bin:/usr/bin:/bin"
BUILD_SECONDS = 300
READY_SECONDS = 60


class CheckError(Exception):
    """The container is not as it should be; the text says why."""


class Container:
    """The image's command as it runs, unprivileged, with the root folder for a root."""

    def __init__(self, root: Path, final: Stage, variables: Mapping[str, str], command: Sequence[str] = ()) -> None:
        self._final = final
        self._prefix = command_inside(root, final)
        self._variables = {**environment_of(final), **variables}
        words = command or [*final.one("ENTRYPOINT").words, *final.one("CMD").words]
        self.process = subprocess.Popen(  # noqa: S603  read from the Dockerfile, or from the manifest
            [*self._prefix, *words], env=self._variables, cwd="/"
        )

    def wait_healthy(self) -> None:
        """Asks as HEALTHCHECK does, until it says yes."""
        self.wait_for(*self._final.one("HEALTHCHECK").words)

    def wait_for(self, *words: str) -> None:
        """Runs a command in it again and again, until it succeeds."""
        deadline = time.monotonic() + READY_SECONDS
        while self._call(*words).returncode:
            if time.monotonic() > deadline or self.process.poll() is not None:
                said = self._call(*words).stderr.decode()
                raise CheckError(f"not healthy within {READY_SECONDS} s: {said}")
            time.sleep(0.1)

    def run_inside(self, *command: str) -> None:
        """Runs a command in it, which must succeed."""
        done = self._call(*command)
        if done.returncode:
            raise CheckError(done.stderr.decode().strip().rpartition("\n")[2])

    def stop(self, seconds: float) -> None:
        """Sends the signal that the engine would send; the container must end by itself, within seconds, with 0."""
        self.process.send_signal(signal.Signals[self._final.one("STOPSIGNAL").text])
        code = self.process.wait(seconds)
        if code:
            raise CheckError(f"ended with exit code {code}")

    def _call(self, *command: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(  # noqa: S603
            [*self._prefix, *command], env=self._variables, cwd="/", capture_output=True, timeout=60, check=False
        )


def read_stages() -> tuple[Stage, Stage]:
    """The builder and the final stage, which must be such as this script can follow."""
    builder, final = parse((ROOT / "Dockerfile").read_text())
    if final.all("RUN"):
        raise CheckError("the final stage runs something; let the builder do it")
    user = final.one("USER").text.split(":")
    if not all(part.isdigit() and int(part) for part in user) or len(user) != len(("user", "group")):
        raise CheckError("USER must be the numbers of a user and a group that are not root")
    return builder, final


def volumes_of(final: Stage) -> list[str]:
    """The folders that are volumes."""
    return [volume for instruction in final.all("VOLUME") for volume in instruction.words]


def begin_opt(work: Path) -> None:
    """Lays an empty layer over /opt, where the builder stage works; only this process and its children see it."""
    for name in ("upper", "layer", "root"):
        (work / name).mkdir()
    mount("-t", "overlay", "overlay", "-o", f"lowerdir=/opt,upperdir={work}/upper,workdir={work}/layer", "/opt")


def build_stage(builder: Stage, given: Mapping[str, str]) -> None:
    """Does what the builder stage says, with what is given of its arguments."""
    arguments = {**builder.arguments(), **given}
    environment = {**_pip_settings(), **arguments, **builder.environment({"PATH": BASE_PATH})}
    folder = Path("/")
    for instruction in builder.instructions:
        if instruction.name == "WORKDIR":
            folder = Path(instruction.text)
            folder.mkdir(parents=True)
        elif instruction.name == "COPY":
            _copy(instruction, ROOT, folder)
        elif instruction.name == "RUN":
            run_command("sh", "-euc", instruction.text, env=environment, cwd=folder)


def make_root(final: Stage, work: Path, programs: Sequence[str] = ()) -> Path:
    """Makes the final stage's root: a bare system with this Python, and what is copied from the builder.

    Args:
        final: The stage.
        work: The folder to make it in.
        programs: Folders of this machine's programs that are to be seen there, too.
    """
    root = work / "root"
    mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", str(root))
    for instruction in final.all("COPY"):
        source, target = (Path(word) for word in instruction.words)
        inside = root / target.relative_to("/")
        inside.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, inside, symlinks=True)
        owner = instruction.flags.get("chown", "0:0")
        run_command("chown", "-R", owner, str(inside))
    for library in (PYTHON, *map(Path, ("/lib", "/lib64", "/usr/lib", "/usr/lib64", *programs))):
        if library.exists():
            _bind(library, root / library.relative_to("/"))
    return root


def close_root(root: Path, volumes: Sequence[str]) -> None:
    """Adds what an engine adds, gives the volumes a disk of their own, and makes all else read-only."""
    for folder in ("dev", "proc", "tmp", *(volume.lstrip("/") for volume in volumes)):
        if not (root / folder).exists():
            (root / folder).mkdir(parents=True)
            (root / folder).chmod(0o777)
    for device in ("null", "urandom"):
        (root / "dev" / device).touch()
        mount("--bind", f"/dev/{device}", str(root / "dev" / device))
    mount("-t", "proc", "proc", str(root / "proc"))
    for volume in volumes:
        inside = root / volume.lstrip("/")
        owner = inside.stat()
        options = f"mode={owner.st_mode & 0o7777:o},uid={owner.st_uid},gid={owner.st_gid}"
        mount("-t", "tmpfs", "-o", options, "tmpfs", str(inside))
    mount("-o", "remount,ro", str(root))


def mount(*arguments: str) -> None:
    """Mounts something, for this process and its children."""
    run_command("mount", *arguments)


def run_command(*command: str, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> None:
    """Runs a command, which must succeed; what it says is shown only if it fails.

    Raises:
        CheckError: It did not.
    """
    done = subprocess.run(  # noqa: S603  from this file and the Dockerfile
        command, env=env, cwd=cwd, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False
    )
    sys.stdout.write(done.stdout if command[0] == "unshare" else "")
    if done.returncode:
        raise CheckError(f"{_line(command)}\n{done.stdout}{done.stderr}".rstrip())


def _pip_settings() -> dict[str, str]:
    """How this machine reaches its package index."""
    names = ("HOME", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
    kept = {*names, *map(str.lower, names)}
    return {key: value for key, value in os.environ.items() if key in kept or key.startswith("PIP_")}


def _copy(instruction: Instruction, context: Path, folder: Path) -> None:
    """Copies as COPY does, but only what .dockerignore lets through."""
    *sources, target = instruction.words
    allowed = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"}
    for source in sources:
        if source not in allowed:
            raise CheckError(f".dockerignore does not let {source} through")
        _copy_one(context / source, folder / target / (Path(source).name if target.endswith("/") else ""))


def _copy_one(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy2(source, target)


def _bind(source: Path, target: Path) -> None:
    """Shows a folder of the machine, to be read only."""
    if source.is_symlink():
        target.symlink_to(source.readlink())
        return
    target.mkdir(parents=True, exist_ok=True)
    mount("--bind", "-o", "ro", str(source), str(target))


def command_inside(root: Path, final: Stage) -> list[str]:
    """The beginning of a command that runs inside, as the container's user."""
    setpriv, chroot = (
        shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin") or name for name in ("setpriv", "chroot")
    )
    user = final.one("USER").text
    return [setpriv, "--no-new-privs", "--inh-caps=-all", chroot, "--groups=", f"--userspec={user}", str(root)]


def environment_of(final: Stage) -> dict[str, str]:
    """The environment that the image sets."""
    return final.environment({"PATH": BASE_PATH})


def _line(command: Sequence[str]) -> str:
    return " ".join(command)
