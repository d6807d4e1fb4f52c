"""Builds and runs the container that the Dockerfile describes, without an engine; called by scripts/check-container.

What is built, copied, set and run is read from the Dockerfile, so that the two cannot drift apart. Everything happens
in namespaces that end with this process: nothing is left on the machine.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from scripts import manifests
from scripts.dockerfile import Instruction, Stage, parse

from kfadapter_grpc.client import Client, HealthStatus, RunState
from kfadapter_grpc.embedded.process import launch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = Path(__file__).resolve().parent.parent
PYTHON = Path(sys.base_prefix)
BASE_PATH = f"{PYTHON}/bin:/usr/bin:/bin"
BUILD_SECONDS = 300
READY_SECONDS = 60
USAGE = 2
VERSION = "1.2.3.dev4+g0123abc"
"""What the image is told to be: a build argument, as git is not copied."""
EMBEDDED = os.environ.get("PACKAGES") == "embedded"
"""Whether the image with the embedded KFP is built, and run as a try-out on Kubernetes would."""
PADDING = b"# " + b"x" * 97 + b"\n"
"""A line of YAML that means nothing; enough of them make an upload that does not stay in memory."""

PROBE = """
import importlib.util, os, pathlib, shutil, sys

volumes = sys.argv[1:]
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\\t" in line)
assert os.getuid() > 0 and os.getgid() > 0 and not set(os.getgroups()) - {os.getgid()}, "not an unprivileged user"
assert int(status["CapEff"], 16) == 0 and status["NoNewPrivs"] == "1", "it has privileges"
tools = [name for name in ("gcc", "cc", "g++", "clang", "ld", "as", "make", "curl", "wget") if shutil.which(name)]
assert not tools, f"tools of a build in the image: {tools}"
modules = ("kfp", "pip", "setuptools", "wheel", "hatchling", "grpc_tools", "starlette", "pytest")
found = [name for name in modules if importlib.util.find_spec(name)]
assert not found, f"packages that nobody needs there: {found}"
written = []
for folder, folders, _ in os.walk("/"):
    folders[:] = [name for name in folders if not os.path.ismount(os.path.join(folder, name)) or name != "proc"]
    try:
        pathlib.Path(folder, "probe").touch()
    except OSError:
        continue
    pathlib.Path(folder, "probe").unlink()
    written.append(folder)
assert written == volumes, f"can be written to: {written}; declared: {volumes}"
left = [name for volume in volumes for name in os.listdir(volume)]
assert not left, f"left behind: {left}"
"""
"""What runs inside, as the container's user."""
TOLD = """
import subprocess, sys

told = subprocess.run(["kfadapter", "--version"], capture_output=True, text=True, check=True).stdout
assert told.startswith(f"kfadapter {sys.argv[1]}\\n"), f"it takes itself for {told}"
"""
"""What compares the version that it tells, inside, too."""


class CheckError(Exception):
    """The container is not as it should be; the text says why."""


def main() -> int:
    """Builds, then runs in a network of its own; tells the exit code."""
    try:
        if sys.argv[1:]:
            run(Path(sys.argv[1]))
        else:
            build()
    except CheckError as error:
        sys.stderr.write(f"check-container: {error}\n")
        return 1
    return 0


def build() -> None:
    """Runs the builder stage, makes the final stage's root, and lets a child run it where no port is taken."""
    builder, final = _stages()
    with tempfile.TemporaryDirectory(prefix="kfadapter-container-") as folder:
        work = Path(folder)
        _mount("-t", "tmpfs", "tmpfs", str(work))
        try:
            _begin_opt(work)
            _build(builder)
            root = _make_root(final, work)
            _say(f"the environment is {_megabytes(root / 'opt')} MB")
            _close_root(root, [*_volumes(final), *(_pod_volumes() if EMBEDDED else [])])
            _run("unshare", "--net", sys.executable, "-m", "scripts.check_container", str(work), cwd=ROOT)
        finally:
            _run("umount", "--lazy", "--recursive", str(work))


def run(work: Path) -> None:
    """Runs the image beside an embedded KFP and does with it what its users do."""
    _, final = _stages()
    _run("ip", "link", "set", "lo", "up")
    _refuses_to_listen(work, final)
    if EMBEDDED:
        _try_out(work / "root", final)
        return
    with launch(work / "kfp") as kfp:
        pod = _Pod("single-user")
        container = _Container(work / "root", final, {**pod.variables, "KFADAPTER_KFP_URL": kfp.wait_ready()})
        try:
            container.wait_healthy()
            _probe(pod)
            _upload(final.one("EXPOSE").words[0])
            container.run_inside("python", "-c", PROBE, *_volumes(final))
            container.run_inside("python", "-c", TOLD, VERSION)
            container.stop(pod.grace_seconds)
        finally:
            container.process.kill()
    _say("it starts, is healthy, takes an upload, writes nowhere else, and ends with exit code 0")


def _try_out(root: Path, final: Stage) -> None:
    """Runs both containers of a try-out, and a pipeline in them; ends them as Kubernetes does, the adapter first."""
    pod = _Pod("embedded")
    kfp = _Container(root, final, {one["name"]: one["value"] for one in pod.kfp["env"]}, pod.kfp["command"])
    container = _Container(root, final, pod.variables)
    try:
        kfp.wait_for(*pod.kfp["startupProbe"]["exec"]["command"])
        container.wait_healthy()
        _probe(pod)
        _run_pipeline(final.one("EXPOSE").words[0])
        container.stop(pod.grace_seconds)
        kfp.stop(pod.grace_seconds)
    finally:
        container.process.kill()
        kfp.process.kill()
    _say("it starts beside the embedded KFP, runs a pipeline there, and both end with exit code 0")


class _Pod:
    """What an overlay in deploy/ says of the adapter's pod."""

    def __init__(self, overlay: str) -> None:
        made = manifests.build(overlay)
        spec = manifests.one(made, "Deployment")["spec"]["template"]["spec"]
        self.variables = manifests.variables(made)
        self.grace_seconds = int(spec["terminationGracePeriodSeconds"])
        self.probed = int(spec["containers"][0]["readinessProbe"]["grpc"]["port"])
        self.kfp: manifests.Manifest = next(iter(spec.get("initContainers", [])), {})


class _Container:
    """The image's command as it runs, unprivileged, with the root folder for a root."""

    def __init__(self, root: Path, final: Stage, variables: Mapping[str, str], command: Sequence[str] = ()) -> None:
        self._final = final
        self._prefix = _inside(root, final)
        self._variables = {**_environment(final), **variables}
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


def _stages() -> tuple[Stage, Stage]:
    """The builder and the final stage, which must be such as this script can follow."""
    builder, final = parse((ROOT / "Dockerfile").read_text())
    if final.all("RUN"):
        raise CheckError("the final stage runs something; let the builder do it")
    user = final.one("USER").text.split(":")
    if not all(part.isdigit() and int(part) for part in user) or len(user) != len(("user", "group")):
        raise CheckError("USER must be the numbers of a user and a group that are not root")
    return builder, final


def _begin_opt(work: Path) -> None:
    """Lays an empty layer over /opt, where the builder stage works; only this process and its children see it."""
    for name in ("upper", "layer", "root"):
        (work / name).mkdir()
    _mount("-t", "overlay", "overlay", "-o", f"lowerdir=/opt,upperdir={work}/upper,workdir={work}/layer", "/opt")


def _build(builder: Stage) -> None:
    """Does what the builder stage says."""
    arguments = {**builder.arguments(), "VERSION": VERSION, "PACKAGES": "embedded" if EMBEDDED else "server"}
    environment = {**_pip_settings(), **arguments, **builder.environment({"PATH": BASE_PATH})}
    folder = Path("/")
    for instruction in builder.instructions:
        if instruction.name == "WORKDIR":
            folder = Path(instruction.text)
            folder.mkdir(parents=True)
        elif instruction.name == "COPY":
            _copy(instruction, ROOT, folder)
        elif instruction.name == "RUN":
            _run("sh", "-euc", instruction.text, env=environment, cwd=folder)


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


def _make_root(final: Stage, work: Path) -> Path:
    """Makes the final stage's root: a bare system with this Python, and what is copied from the builder."""
    root = work / "root"
    _mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", str(root))
    for instruction in final.all("COPY"):
        source, target = (Path(word) for word in instruction.words)
        inside = root / target.relative_to("/")
        inside.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, inside, symlinks=True)
        owner = instruction.flags.get("chown", "0:0")
        _run("chown", "-R", owner, str(inside))
    for library in (PYTHON, *map(Path, ("/lib", "/lib64", "/usr/lib", "/usr/lib64"))):
        if library.exists():
            _bind(library, root / library.relative_to("/"))
    return root


def _close_root(root: Path, volumes: Sequence[str]) -> None:
    """Adds what an engine adds, gives the volumes a disk of their own, and makes all else read-only."""
    for folder in ("dev", "proc", "tmp", *(volume.lstrip("/") for volume in volumes)):
        if not (root / folder).exists():
            (root / folder).mkdir(parents=True)
            (root / folder).chmod(0o777)
    for device in ("null", "urandom"):
        (root / "dev" / device).touch()
        _mount("--bind", f"/dev/{device}", str(root / "dev" / device))
    _mount("-t", "proc", "proc", str(root / "proc"))
    for volume in volumes:
        inside = root / volume.lstrip("/")
        owner = inside.stat()
        options = f"mode={owner.st_mode & 0o7777:o},uid={owner.st_uid},gid={owner.st_gid}"
        _mount("-t", "tmpfs", "-o", options, "tmpfs", str(inside))
    _mount("-o", "remount,ro", str(root))


def _bind(source: Path, target: Path) -> None:
    """Shows a folder of the machine, to be read only."""
    if source.is_symlink():
        target.symlink_to(source.readlink())
        return
    target.mkdir(parents=True, exist_ok=True)
    _mount("--bind", "-o", "ro", str(source), str(target))


def _inside(root: Path, final: Stage) -> list[str]:
    """The beginning of a command that runs inside, as the container's user."""
    setpriv, chroot = (
        shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin") or name for name in ("setpriv", "chroot")
    )
    user = final.one("USER").text
    return [setpriv, "--no-new-privs", "--inh-caps=-all", chroot, "--groups=", f"--userspec={user}", str(root)]


def _environment(final: Stage) -> dict[str, str]:
    return final.environment({"PATH": BASE_PATH})


def _volumes(final: Stage) -> list[str]:
    return [volume for instruction in final.all("VOLUME") for volume in instruction.words]


def _pod_volumes() -> list[str]:
    """The folders that a try-out mounts besides."""
    return [mount["mountPath"] for mount in _Pod("embedded").kfp["volumeMounts"]]


def _refuses_to_listen(work: Path, final: Stage) -> None:
    """Without the word that the network is trusted it must not start, and say which word that is."""
    command = [*_inside(work / "root", final), *final.one("ENTRYPOINT").words, *final.one("CMD").words]
    done = subprocess.run(  # noqa: S603
        command, env=_environment(final), cwd="/", capture_output=True, timeout=READY_SECONDS, check=False
    )
    if done.returncode != USAGE or b"KFADAPTER_INSECURE_LISTEN" not in done.stderr:
        raise CheckError(f"started on all interfaces unasked, or ended with {done.returncode}: {done.stderr.decode()}")


def _probe(pod: _Pod) -> None:
    """Asks as kubelet does: over gRPC, in plain text, for the health of the name ""."""
    with Client(f"127.0.0.1:{pod.probed}") as client:
        if client.health() is not HealthStatus.SERVING:
            raise CheckError("a probe of Kubernetes would say that it does not serve")


def _run_pipeline(port: str) -> None:
    """Uploads a pipeline, runs it, and waits for its end."""
    with Client(f"127.0.0.1:{port}") as client:
        client.upload(ROOT / "examples" / "train.yaml", name="train")
        ended = client.wait_run(client.create_run("train").run_id, timeout=READY_SECONDS)
        if ended.state is not RunState.SUCCEEDED:
            raise CheckError(f"the run ended as {ended.state.name}: {ended.error}")


def _upload(port: str) -> None:
    """Uploads a file that is too large for memory, from outside."""
    pipeline = (ROOT / "examples" / "train.yaml").read_bytes()
    with tempfile.TemporaryFile() as file, Client(f"127.0.0.1:{port}") as client:
        file.write(pipeline + PADDING * 30_000)
        file.seek(0)
        client.upload(file, name="from-outside")
        if not client.get("from-outside").latest_version:
            raise CheckError("the upload is not there")


def _megabytes(folder: Path) -> int:
    return round(sum(path.lstat().st_size for path in folder.rglob("*")) / 1e6)


def _mount(*arguments: str) -> None:
    _run("mount", *arguments)


def _run(*command: str, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> None:
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


def _line(command: Sequence[str]) -> str:
    return " ".join(command)


def _say(text: str) -> None:
    sys.stdout.write(f"container: {text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
