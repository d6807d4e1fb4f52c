from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest
import urllib3
from urllib3.filepost import encode_multipart_formdata

from kfadapter_embedded.process import start

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kfadapter_embedded.process import EmbeddedKfp

HELLO = Path(__file__).parents[1] / "data" / "pipelines" / "hello_world.yaml"


@dataclass(frozen=True)
class Reply:
    """An HTTP response."""

    status: int
    text: str

    @property
    def json(self) -> dict[str, object]:
        """The body, which must be a JSON object."""
        body = json.loads(self.text)
        assert isinstance(body, dict)
        return body

    def __getitem__(self, key: str) -> str:
        return str(self.json[key])


@dataclass
class Caller:
    """Plain HTTP to one server, over persistent connections."""

    url: str
    pool: urllib3.PoolManager = field(
        default_factory=lambda: urllib3.PoolManager(retries=False, timeout=60, maxsize=20)
    )

    def call(self, method: str, path: str, *, json_body: object = None, **query: object) -> Reply:
        """Sends a request."""
        body = None if json_body is None else json.dumps(json_body).encode()
        reply = self.pool.request(method, self._address(path, query), body=body)
        return Reply(reply.status, reply.data.decode())

    def get(self, path: str, **query: object) -> Reply:
        """Sends a GET request."""
        return self.call("GET", path, **query)

    def upload(self, content: bytes | None = None, *, filename: str = "p.yaml", **query: object) -> Reply:
        """Uploads a pipeline, or a version if a `pipelineid` is given; without a name, a unique one is used."""
        query.setdefault("name", unique("p"))
        path = "/pipelines/upload_version" if "pipelineid" in query else "/pipelines/upload"
        file = (filename, HELLO.read_bytes() if content is None else content)
        body, content_type = encode_multipart_formdata({"uploadfile": file})
        reply = self.pool.request("POST", self._address(path, query), body=body, headers={"content-type": content_type})
        return Reply(reply.status, reply.data.decode())

    def _address(self, path: str, query: dict[str, object]) -> str:
        root = path if path.startswith("/apis/") else f"/apis/v2beta1{path}"
        return f"{self.url}{root}?{urlencode(query)}"


def unique(prefix: str) -> str:
    """A unique name."""
    return f"{prefix}-{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="session")
def kfp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKfp]:
    """An embedded KFP that all tests share: they use unique names."""
    with start(tmp_path_factory.mktemp("kfp")) as running:
        yield running


@pytest.fixture(scope="session")
def caller(kfp: EmbeddedKfp) -> Caller:
    """Plain HTTP to the shared server."""
    return Caller(kfp.url)
