"""Makes the files of a release from a clean checkout, the same bytes everywhere (docs/reference/releases.md).

release.py [FOLDER]    into dist/, or into that folder

Times are the commit's, modes are git's, names are sorted, and no path of the machine is written.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.metadata
import io
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ROOT = Path(__file__).resolve().parent.parent
TOOLS = Path(sys.executable).parent
NAME = "kfadapter_grpc"
INSTALLATIONS = ("client", "server", "embedded")
"""The locks of what is installed: each gets an SBOM."""
BUILD_LOCK = "requirements/build.txt"
_TAG = re.compile(r"v(\d+\.\d+\.\d+(?:(?:a|b|rc)\d+)?)")


def release(folder: Path) -> None:
    """Makes all files in a new folder, or fails before it made any."""
    if changed := _git("status", "--porcelain"):
        sys.exit(f"release: the checkout differs from its commit:\n{changed}")
    version = _output(TOOLS / "hatchling", "version").strip()
    if fault := tag_fault(
        version, _git("tag", "--points-at", "HEAD").split(), (ROOT / "CHANGELOG.md").read_text("utf-8")
    ):
        sys.exit(f"release: {fault}")
    epoch = int(_git("show", "--no-patch", "--format=%ct", "HEAD"))
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    # The source distribution, and the wheel from that.
    environment = {"SOURCE_DATE_EPOCH": str(epoch), "SETUPTOOLS_SCM_PRETEND_VERSION": version}
    _output(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, environment=environment)
    shutil.copyfile(ROOT / "src/kfadapter/kfadapter.binpb", folder / f"{NAME}-{version}.binpb")
    protos = {path: path.removeprefix("protos/") for path in _files("protos/kfadapter")}
    _pack(folder / f"{NAME}-{version}-protos.tar.gz", _entries(protos), epoch)
    _pack(folder / f"{NAME}-{version}-container.tar.gz", _container(version), epoch)
    _pack(folder / f"kfadapter-{semantic(version)}.tgz", _chart(version), epoch)
    for installation in INSTALLATIONS:
        _bill(installation, folder / f"{NAME}-{version}-{installation}.cdx.json")
    statement = provenance(version, {path.name: _digest(path.read_bytes()) for path in sorted(folder.iterdir())})
    (folder / f"{NAME}-{version}.intoto.json").write_text(json.dumps(statement, indent=2) + "\n", "utf-8")
    sums = "".join(f"{_digest(path.read_bytes())}  {path.name}\n" for path in sorted(folder.iterdir()))
    (folder / "SHA256SUMS").write_text(sums, "utf-8")
    print(sums, end="")  # noqa: T201
    if "+" in version or ".dev" in version:
        print(f"release: {version} is a rehearsal: the commit has no tag", file=sys.stderr)  # noqa: T201


def tag_fault(version: str, tags: Iterable[str], changelog: str) -> str:
    """Returns what of a tagged commit does not agree; empty if all does, or if no tag of a version is there."""
    tagged = [match[1] for tag in tags if (match := _TAG.fullmatch(tag))]
    if not tagged:
        return ""
    newest = re.search(r"^## (\S+)", changelog, re.MULTILINE)
    section = newest[1] if newest else "none"
    if tagged != [version]:
        return f"the tags of the commit say {', '.join(tagged)}, git's version is {version}"
    return "" if section == version else f"the tag is {version}, the first section of CHANGELOG.md is {section}"


def provenance(version: str, files: Mapping[str, str]) -> Mapping[str, object]:
    """Returns an in-toto statement with SLSA's provenance, unsigned: what was made from which commit with what."""
    locked = re.findall(r"^([a-z0-9.-]+)==", (ROOT / BUILD_LOCK).read_text("utf-8"), re.MULTILINE)
    installed = {name: found for name in locked if (found := _installed(name))}
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": name, "digest": {"sha256": digest}} for name, digest in files.items()],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": "urn:kfadapter-grpc:scripts:release:1",
                "externalParameters": {"version": version},
                "resolvedDependencies": [
                    {"name": "source", "digest": {"gitCommit": _git("rev-parse", "HEAD")}},
                    {"name": BUILD_LOCK, "digest": {"sha256": _digest((ROOT / BUILD_LOCK).read_bytes())}},
                    *({"uri": f"pkg:pypi/{name}@{found}"} for name, found in installed.items()),
                ],
            },
            "runDetails": {
                "builder": {
                    "id": "urn:kfadapter-grpc:builder:a-checkout",
                    "version": {"python": platform.python_version()},
                }
            },
        },
    }


def _installed(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:  # of another Python
        return ""


def _container(version: str) -> Mapping[str, tuple[bytes, int]]:
    """What the Dockerfile reads, for `docker build - <FILE`; it gets its version, as git is left behind."""
    ignored = (ROOT / ".dockerignore").read_text("utf-8")
    paths = ["Dockerfile", ".dockerignore", *re.findall(r"^!(.+)$", ignored, re.MULTILINE)]
    entries = _entries({path: path for path in _files(*paths)})
    return _edited(entries, "Dockerfile", {"ARG VERSION=": version})


def _chart(version: str) -> Mapping[str, tuple[bytes, int]]:
    """What `helm package` would pack: but that writes the time at which it does."""
    entries = _entries({path: path.replace("deploy/chart", "kfadapter", 1) for path in _files("deploy/chart")})
    return _edited(entries, "kfadapter/Chart.yaml", {"version: ": semantic(version), "appVersion: ": version})


def semantic(version: str) -> str:
    """Returns a version as Helm takes it: 1.2.4.dev5+g0123abc is 1.2.4-dev.5+g0123abc."""
    return re.sub(r"\.?(dev|rc|a|b)(\d+)", r"-\1.\2", version, count=1)


def _edited(
    entries: Mapping[str, tuple[bytes, int]], name: str, values: Mapping[str, str]
) -> Mapping[str, tuple[bytes, int]]:
    """Returns the entries with other values on lines of one of them, by what the lines start with."""
    content, mode = entries[name]
    for start, value in values.items():
        content, found = re.subn(rb"(?m)^" + re.escape(start.encode()) + rb".*$", (start + value).encode(), content)
        if found != 1:
            sys.exit(f"release: {name} has {found} lines that start with {start!r}")
    return {**entries, name: (content, mode)}


def _bill(installation: str, path: Path) -> None:
    # Not validated here: that takes ten times as long, so a test does.
    options = ["--pyproject", "pyproject.toml", "--output-reproducible", "--no-validate", "--of", "JSON", "-o"]
    _output(TOOLS / "cyclonedx-py", "requirements", f"requirements/{installation}.txt", *options, path)


def _files(*paths: str) -> list[str]:
    return _git("ls-files", "-z", "--", *paths).rstrip("\0").split("\0")


def _entries(names: Mapping[str, str]) -> Mapping[str, tuple[bytes, int]]:
    """Reads files of the checkout: bytes and mode by the name that each gets."""
    modes = {line.split("\t")[1]: line[3:6] for line in _git("ls-files", "-sz", "--", *names).rstrip("\0").split("\0")}
    # A symbolic link, whose mode is 000, becomes the file.
    return {new: ((ROOT / path).read_bytes(), int(modes[path], 8) or 0o644) for path, new in names.items()}


def _pack(path: Path, entries: Mapping[str, tuple[bytes, int]], epoch: int) -> None:
    with (
        path.open("wb") as file,
        gzip.GzipFile("", "wb", fileobj=file, mtime=epoch) as packed,
        tarfile.open(mode="w", fileobj=packed, format=tarfile.PAX_FORMAT) as archive,
    ):
        for name, (content, mode) in sorted(entries.items()):
            one = tarfile.TarInfo(name)
            one.size, one.mtime, one.mode = len(content), epoch, mode
            archive.addfile(one, io.BytesIO(content))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _git(*words: str) -> str:
    return _output("git", *words).strip("\n")


def _output(*words: str | Path, environment: Mapping[str, str] | None = None) -> str:
    env = {**os.environ, **(environment or {})}
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, env=env)  # noqa: S603
    if done.returncode:
        sys.exit(f"release: {Path(words[0]).name} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    release(Path(sys.argv[1]).absolute() if len(sys.argv) > 1 else ROOT / "dist")
