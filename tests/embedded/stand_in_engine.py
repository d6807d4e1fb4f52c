"""A container engine's API over a Unix socket, as used by the `docker` package; its containers are processes.

Instead of mounting folders, it replaces mount paths in the command with the paths outside.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socketserver
import subprocess
import tempfile
import threading
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

if TYPE_CHECKING:
    from types import TracebackType

_FRAME = b"\x01\0\0\0"
_VERSION = {"Version": "28.0", "ApiVersion": "1.41", "MinAPIVersion": "1.24", "Components": [{"Name": "Engine"}]}


@dataclass
class Container:
    """A container: the request that created it, and its process."""

    request: dict[str, Any]
    process: subprocess.Popen[bytes] | None = None
    attached: Any = None
    signals: list[str] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def words(self) -> list[str]:
        """The command, as requested."""
        return [*self.request["Entrypoint"], *self.request["Cmd"]]

    @property
    def host(self) -> dict[str, Any]:
        """The requested HostConfig."""
        config: dict[str, Any] = self.request["HostConfig"]
        return config


class StandInEngine:
    """An engine at `url`.

    Attributes:
        images: The images it has.
        registry: The result of a pull, by image: an error (status and text), or an error in the stream of a pull (0 and
            text); an image that is not listed here is pulled successfully.
        pulls: The images that were pulled, successfully or not.
        containers: The current containers, by id.
        made: All containers so far.
        out_of_memory: Whether a container that ends with 137 is reported as out of memory.
        security: The security options it reports.
    """

    def __init__(self) -> None:
        self.images: set[str] = set()
        self.registry: dict[str, tuple[int, str]] = {}
        self.pulls: list[str] = []
        self.containers: dict[str, Container] = {}
        self.made: list[Container] = []
        self.out_of_memory = False
        self.security: list[str] = []
        self.changed = threading.Condition()
        # A path of a Unix socket has at most 107 bytes.
        self._folder = Path(tempfile.mkdtemp())
        self.path = self._folder / "engine.sock"
        self.url = f"unix://{self.path}"
        engine = self

        class Handler(_Handler):
            def __init__(self, *arguments: Any) -> None:  # noqa: ANN401
                self.engine = engine
                super().__init__(*arguments)

        self._server = _Server(str(self.path), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def wait_for(self, count: int) -> list[Container]:
        """Waits until so many containers are running."""

        def running() -> list[Container] | None:
            found = [one for one in self.containers.values() if one.process and not one.ended.is_set()]
            return found if len(found) >= count else None

        with self.changed:
            found = self.changed.wait_for(running, 60)
        assert found is not None
        return found

    def go_away(self) -> None:
        """Ends like an engine that crashes: it accepts no more connections, and closes all open ones."""
        self._server.shutdown()
        self.path.unlink(missing_ok=True)
        self._server.cut()
        for one in self.made:
            one.ended.set()
        self._server.server_close()

    def close(self) -> None:
        """Stops the engine, and all containers."""
        self.go_away()
        for one in self.made:
            if one.process:
                _kill(one.process, signal.SIGKILL)
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> StandInEngine:  # noqa: PYI034
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    def __init__(self, path: str, handler: type[_Handler]) -> None:
        self.connections: set[Any] = set()
        super().__init__(path, handler)

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        self.connections.add(request)
        super().process_request(request, client_address)

    def cut(self) -> None:
        for one in self.connections:
            with suppress(OSError):
                one.shutdown(2)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        """A closed connection is no error."""


class _Handler(BaseHTTPRequestHandler):
    engine: StandInEngine
    protocol_version = "HTTP/1.1"

    def address_string(self) -> str:
        return "engine"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Prints nothing."""

    def do_GET(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_DELETE(self) -> None:
        self._answer("DELETE")

    def _answer(self, method: str) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urlsplit(self.path)
        path = re.sub(r"^/v[\d.]+", "", url.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        for pattern, function in _ROUTES.items():
            if (found := re.fullmatch(pattern, f"{method} {path}")) is not None:
                function(self, *map(unquote, found.groups()), query=query, body=json.loads(body or b"null"))
                return
        self._send({"message": f"no {method} {path} here"}, 404)

    def _send(self, body: object = None, status: int = 200) -> None:
        text = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def version(self, **_: object) -> None:
        self._send(_VERSION)

    def info(self, **_: object) -> None:
        self._send({"NCPU": 2, "SecurityOptions": self.engine.security})

    def pull(self, *, query: dict[str, str], **_: object) -> None:
        image = ":".join([query["fromImage"], *([query["tag"]] if "tag" in query else [])])
        self.engine.pulls.append(image)
        status, text = self.engine.registry.get(image, (200, ""))
        if status > 200:
            self._send({"message": text}, status)
            return
        lines: list[object] = [{"status": "Downloading", "id": "a", "progressDetail": {"current": 1, "total": 9}}]
        lines.append({"error": text} if text else {"status": "Pull complete", "id": "a"})
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for line in [*(json.dumps(one).encode() + b"\r\n" for one in lines), b""]:
            self.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
        if not text:
            self.engine.images.add(image)

    def image(self, name: str, **_: object) -> None:
        has = (name if ":" in name else f"{name}:latest") in self.engine.images
        self._send({"Id": name} if has else {"message": f"No such image: {name}"}, 200 if has else 404)

    def create(self, *, body: dict[str, Any], **_: object) -> None:
        missing = [one["Source"] for one in body["HostConfig"]["Mounts"] if not Path(one["Source"]).exists()]
        if missing:
            self._send({"message": f"bind source path does not exist: {missing[0]}"}, 400)
            return
        name = uuid.uuid4().hex
        self.engine.containers[name] = Container(body)
        self.engine.made.append(self.engine.containers[name])
        self._send({"Id": name}, 201)

    def attach(self, name: str, **_: object) -> None:
        container = self.engine.containers[name]
        self.send_response(101, "UPGRADED")
        self.send_header("Content-Type", "application/vnd.docker.raw-stream")
        self.send_header("Connection", "Upgrade")
        self.send_header("Upgrade", "tcp")
        self.end_headers()
        container.attached = self.wfile
        container.ended.wait()
        self.close_connection = True

    def start(self, name: str, **_: object) -> None:
        container = self.engine.containers[name]
        words = [_outside(word, container.host["Mounts"]) for word in container.words]
        variables = dict(one.split("=", 1) for one in container.request.get("Env") or ())
        try:
            container.process = subprocess.Popen(
                words,
                env={"PATH": os.environ["PATH"], **variables},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd="/",
            )
        except FileNotFoundError:
            self._send({"message": f'exec: "{words[0]}": executable file not found in $PATH'}, 400)
            return
        threading.Thread(target=self._follow, args=(container,), daemon=True).start()
        self._send(status=204)
        with self.engine.changed:
            self.engine.changed.notify_all()

    def _follow(self, container: Container) -> None:
        process = container.process
        assert process is not None
        assert process.stdout is not None
        while piece := os.read(process.stdout.fileno(), 1 << 16):
            # The other end may have disconnected.
            with suppress(OSError, AttributeError):
                container.attached.write(_FRAME + len(piece).to_bytes(4, "big") + piece)
                container.attached.flush()
        process.wait()
        process.stdout.close()
        container.ended.set()

    def wait(self, name: str, **_: object) -> None:
        container = self.engine.containers[name]
        container.ended.wait()
        self._send({"StatusCode": _code(container)})

    def inspect(self, name: str, **_: object) -> None:
        code = _code(self.engine.containers[name])
        state = {"ExitCode": code, "OOMKilled": self.engine.out_of_memory and code == 137}
        self._send({"State": state, "Config": {"Tty": False}})

    def kill(self, name: str, *, query: dict[str, str], **_: object) -> None:
        container = self.engine.containers[name]
        container.signals.append(query["signal"])
        assert container.process is not None
        _kill(container.process, signal.Signals[query["signal"]])
        self._send(status=204)

    def remove(self, name: str, **_: object) -> None:
        container = self.engine.containers.pop(name)
        if container.process:
            _kill(container.process, signal.SIGKILL)
        container.ended.set()
        self._send(status=204)

    def listed(self, *, query: dict[str, str], **_: object) -> None:
        wanted = json.loads(query["filters"])["label"]
        found = [
            {"Id": name}
            for name, one in self.engine.containers.items()
            if all(label in {f"{key}={value}" for key, value in one.request["Labels"].items()} for label in wanted)
        ]
        self._send(found)


_ROUTES: dict[str, Any] = {
    "GET /version": _Handler.version,
    "GET /info": _Handler.info,
    "POST /images/create": _Handler.pull,
    "GET /images/(.+)/json": _Handler.image,
    "GET /containers/json": _Handler.listed,
    "POST /containers/create": _Handler.create,
    "POST /containers/(.+)/attach": _Handler.attach,
    "POST /containers/(.+)/start": _Handler.start,
    "POST /containers/(.+)/wait": _Handler.wait,
    "GET /containers/(.+)/json": _Handler.inspect,
    "POST /containers/(.+)/kill": _Handler.kill,
    "DELETE /containers/(.+)": _Handler.remove,
}


def _outside(word: str, mounts: list[dict[str, str]]) -> str:
    """A word with the paths of mounted folders replaced by those outside."""
    sources = {one["Target"]: one["Source"] for one in mounts}
    targets = "|".join(re.escape(one) for one in sorted(sources, key=len, reverse=True))
    return re.sub(rf"(?<![\w./-])({targets})(?=[/\s\"']|$)", lambda found: sources[found[1]], word)


def _code(container: Container) -> int:
    code = container.process.returncode if container.process else 0
    return 128 - code if code < 0 else code


def _kill(process: subprocess.Popen[bytes], number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
