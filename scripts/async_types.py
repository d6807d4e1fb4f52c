"""Makes src/kfadapter_grpc/client/aio.pyi, the types of AsyncClient, from the declarations of Client and its resources.

scripts/async_types.py           writes it
scripts/async_types.py --check   fails if what is committed differs
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

CLIENT = Path(__file__).parent.parent / "src/kfadapter_grpc/client"
RESOURCES = ("pipelines", "runs", "artifacts", "experiments", "recurring_runs", "identity")
WITHOUT_CALL = {"id_for"}
"""Methods that call nothing."""
HEAD = """
from collections.abc import AsyncGenerator, AsyncIterator
from types import TracebackType
from typing import TypeVar

from typing_extensions import Self

from kfadapter_grpc.client.runs import RunsWhere
from kfadapter_grpc.contract.listing import Page

R = TypeVar("R")

class AsyncPages(AsyncIterator[R]):
    async def __anext__(self) -> R: ...
    async def page(self, token: str = "") -> Page[R]: ...
"""
CLIENT_END = """
    @property
    def target(self) -> str: ...
    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    async def close(self) -> None: ...
    async def health(self, service: str = "") -> HealthStatus: ...
"""
ITERATORS = {"Pages": "AsyncPages[{}]", "Generator": "AsyncGenerator[{}, None]", "Iterator": "AsyncIterator[{}]"}


def main() -> int:
    """Writes or checks the file."""
    text = _formatted(_stub())
    target = CLIENT / "aio.pyi"
    if "--check" not in sys.argv:
        target.write_text(text)
    elif not target.exists() or target.read_text() != text:
        sys.stderr.write(f"{target.name} differs from what scripts/generate makes; run it and commit\n")
        return 1
    return 0


def _stub() -> str:
    trees = [ast.parse((CLIENT / f"{name}.py").read_text()) for name in ("client", *RESOURCES)]
    imports = {
        ast.unparse(one)
        for tree in trees
        for one in ast.walk(tree)
        if isinstance(one, (ast.Import, ast.ImportFrom)) and "__future__" not in ast.unparse(one)
    }
    client, *resources = (
        one
        for tree in trees
        for one in tree.body
        if isinstance(one, ast.ClassDef) and (one.name == "Client" or "Resource" in map(ast.unparse, one.bases))
    )
    attributes = [f"    {name}: Async{one.name}" for name, one in zip(RESOURCES, resources, strict=True)]
    title = '"""The types of AsyncClient, made by scripts/async_types.py from those of Client."""'
    classes = [_class(client, ["__init__"], attributes) + CLIENT_END]
    for one in resources:
        names = [each.name for each in one.body if isinstance(each, ast.FunctionDef) and each.name[0] != "_"]
        classes.append(_class(one, names))
    return "\n".join([title, *sorted(imports), HEAD, *classes])


def _class(declared: ast.ClassDef, methods: Collection[str], attributes: Iterable[str] = ()) -> str:
    bodies = (one for one in declared.body if isinstance(one, ast.FunctionDef) and one.name in methods)
    return "\n".join([f"class Async{declared.name}:", *attributes, *map(_method, bodies)])


def _method(declared: ast.FunctionDef) -> str:
    returned = declared.returns
    asynchronous = declared.name not in WITHOUT_CALL | {"__init__"}
    answer = ast.unparse(returned) if returned else "None"
    if isinstance(returned, ast.Subscript) and isinstance(returned.value, ast.Name) and returned.value.id in ITERATORS:
        of = returned.slice.elts[0] if isinstance(returned.slice, ast.Tuple) else returned.slice
        answer, asynchronous = ITERATORS[returned.value.id].format(ast.unparse(of)), False
    return f"    {'async ' if asynchronous else ''}def {declared.name}({ast.unparse(declared.args)}) -> {answer}: ..."


def _formatted(text: str) -> str:
    for words in (["check", "--fix", "--select", "F401,I", "--quiet"], ["format", "--quiet"]):
        command = [
            str(Path(sys.executable).with_name("ruff")),
            *words,
            "--stdin-filename",
            "aio.pyi",
            "-",
        ]
        text = subprocess.run(command, input=text, capture_output=True, text=True, check=False).stdout  # noqa: S603
    return text


if __name__ == "__main__":
    sys.exit(main())
