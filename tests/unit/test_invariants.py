"""The rules that separate the parts of the program, checked in its source."""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kfadapter.v1 import errors_pb2
from kfadapter_grpc.contract.errors import all_error_classes

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"
PACKAGES = ("kfadapter_grpc", "kfadapter_console", "kfadapter_embedded", "kfadapter_oran")
PROTOS = ROOT / "protos" / "kfadapter" / "v1"
GENERATED = ROOT / "src" / "kfadapter" / "v1"

BASE_DEPENDENCIES = {"grpc", "grpc_health", "google", "typer", "click", "rich", "yaml", "kfadapter"}
"""What a plain installation brings, without the extras `server` and `embedded`."""


@dataclass(frozen=True)
class Module:
    """One file of the program."""

    path: str
    tree: ast.Module

    @property
    def layer(self) -> str:
        """The folder or module of its package; for a sibling of `kfadapter_grpc` with the package."""
        package, folder = self.path.removesuffix(".py").split("/")[:2]
        return {"kfadapter_grpc": folder, "kfadapter_oran": f"oran/{folder}"}.get(package, package)


@dataclass(frozen=True)
class Import:
    """One imported module, as `from a.b import c` imports `a.b` and perhaps `a.b.c`."""

    where: str
    name: str

    @property
    def top(self) -> str:
        """The distribution's package."""
        return self.name.partition(".")[0]


@cache
def _modules() -> tuple[Module, ...]:
    paths = sorted(path for package in PACKAGES for path in (SOURCE / package).rglob("*.py"))
    return tuple(Module(path.relative_to(SOURCE).as_posix(), ast.parse(path.read_bytes())) for path in paths)


def _nodes(tree: ast.AST, *, at_import: bool) -> Iterator[ast.AST]:
    """Yields nodes; with `at_import` only those that run when the module is imported."""
    for node in ast.iter_child_nodes(tree):
        if at_import and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if at_import and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from _nodes(node, at_import=at_import)


def _imports(module: Module, *, at_import: bool = False) -> Iterator[Import]:
    for node in _nodes(module.tree, at_import=at_import):
        where = f"{module.path}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Import):
            yield from (Import(where, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (Import(where, f"{node.module}.{alias.name}") for alias in node.names)


def _of(imported: Import, *packages: str) -> bool:
    return any(f"{imported.name}.".startswith(f"{package}.") for package in packages)


def _places(*packages: str) -> dict[str, str]:
    """The layers that import one of the packages, anywhere in their code, each with an example location."""
    return {module.layer: one.where for module in _modules() for one in _imports(module) if _of(one, *packages)}


def test_kfps_client_stays_in_kfp() -> None:
    """Only kfp/ has an HTTP client for KFP, and nothing imports the SDK's generated client."""
    assert set(_places("httptools")) == {"kfp"}
    assert not _places("kfp_server_api", "urllib3")


def test_kfp_stays_in_embedded() -> None:
    """Only the embedded KFP may import the kfp SDK; the command line runs it as a child process."""
    places = _places("kfp")
    assert set(places) <= {"kfadapter_embedded"}, places


def test_messages_stay_at_the_edges() -> None:
    """Only the layers that receive or make calls import messages of the contract."""
    places = _places("kfadapter")
    allowed = {"codec", "services", "interceptors", "client", "methods", "server", "health", "cli"}
    assert set(places) <= allowed, places
    assert "services" in places


def test_siblings_stay_outside() -> None:
    """kfadapter_grpc imports none of its sibling packages, except for the old name of a moved module."""
    places = _places(*PACKAGES[1:])
    assert {layer for layer in places if not layer.startswith(("kfadapter_", "oran/"))} <= {"training_manager"}, places


def test_no_circles() -> None:
    """No folder or module of kfadapter_grpc imports itself, directly or indirectly."""
    layers = {module.layer for module in _modules() if module.path.startswith("kfadapter_grpc/")}
    ends = {
        layer: {
            one.name.split(".")[1]
            for module in _modules()
            if module.path.startswith("kfadapter_grpc/") and module.layer == layer
            for one in _imports(module)
            if one.top == "kfadapter_grpc" and one.name.split(".")[1] in layers - {layer}
        }
        for layer in layers
    }
    while ends:
        free = {layer for layer, wanted in ends.items() if not wanted & ends.keys()}
        assert free, {layer: sorted(wanted & ends.keys()) for layer, wanted in ends.items()}
        ends = {layer: wanted for layer, wanted in ends.items() if layer not in free}


def test_contract_imports_nothing() -> None:
    """The records of contract/ import no message and no other layer; of gRPC only the status codes."""
    for module in _modules():
        for one in _imports(module) if module.layer == "contract" else ():
            own = _of(one, "kfadapter_grpc.contract", "grpc.StatusCode")
            assert own or one.top in sys.stdlib_module_names, one


def _loaded_by(layers: set[str]) -> set[str]:
    """The modules of the program that are loaded when everything in these layers is imported."""
    known = {module.path: module for module in _modules()}
    waiting = [module.path for module in _modules() if module.layer in layers]
    loaded: set[str] = set()
    while waiting:
        path = waiting.pop()
        if path not in loaded:
            loaded.add(path)
            waiting += [one for name in _imports(known[path], at_import=True) for one in _files(name) if one in known]
    return loaded


def _files(imported: Import) -> Iterator[str]:
    """The files that an import may load: parent packages, and the module itself."""
    names = imported.name.split(".")
    for end in range(1, len(names) + 1):
        inner = "/".join(names[:end])
        yield from (f"{inner}.py", f"{inner}/__init__.py")


def test_edges_of_a_caller() -> None:
    """A plain installation is enough to import the client, the command line and the training manager's stubs."""
    loaded = _loaded_by({"client", "cli", "training_manager"})
    assert "kfadapter_grpc/contract/pipelines.py" in loaded
    for module in _modules():
        for one in _imports(module, at_import=True) if module.path in loaded else ():
            assert one.top in {*BASE_DEPENDENCIES, *PACKAGES, *sys.stdlib_module_names}, one


def test_edges_of_the_notifier() -> None:
    """The notifier only needs a plain installation and the extra `notify`."""
    loaded = _loaded_by({"oran/notices"})
    assert {
        f"kfadapter_{name}.py" for name in ("oran/notices/process", "grpc/daemon/signals", "grpc/metrics/catalog")
    } <= loaded
    for module in _modules():
        for one in _imports(module, at_import=True) if module.path in loaded else ():
            allowed = {*BASE_DEPENDENCIES, "structlog", "prometheus_client", *PACKAGES}
            assert one.top in {*allowed, *sys.stdlib_module_names}, one


def test_only_the_error_interceptor_aborts() -> None:
    """Errors are raised; only the error interceptor aborts calls."""
    aborting = {
        module.path
        for module in _modules()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute)
        and node.attr in {"abort", "abort_with_status"}
        and not ast.unparse(node.value).endswith(".transport")  # asyncio's, of a connection
    }
    assert aborting == {"kfadapter_grpc/interceptors/errors.py"}


def _docstrings(tree: ast.Module) -> set[int]:
    """The strings that are statements: docstrings of modules, classes, functions and attributes."""
    return {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}


def test_service_names_come_from_descriptors() -> None:
    """No module but methods.py spells the name of the contract's package."""
    for module in _modules():
        docstrings = _docstrings(module.tree)
        for node in ast.walk(module.tree) if module.layer != "methods" else ():
            spelled = isinstance(node, ast.Constant) and isinstance(node.value, str) and "kfadapter.v1." in node.value
            assert not spelled or id(node) in docstrings, f"{module.path}:{getattr(node, 'lineno', 0)}"


def _floor(package: str) -> tuple[int, ...]:
    found = re.search(rf'^  "{package}>=([0-9.]+)', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert found is not None
    return _version(found[1])


def _version(text: str) -> tuple[int, ...]:
    numbers = [int(part) for part in text.split(".")]
    return tuple(numbers + [0] * (3 - len(numbers)))


def test_class_variables_have_types() -> None:
    """Python 3.10 cannot read annotations of a record with a bare ClassVar; the codec reads those of all records."""
    bare = [
        f"{module.path}:{node.lineno}"
        for module in _modules()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation) == "ClassVar"
    ]
    assert bare == []


def test_floor_of_grpcio() -> None:
    """The oldest grpcio that pyproject.toml allows is the one that the generated stubs require."""
    asked = {
        found
        for path in GENERATED.glob("*_pb2_grpc.py")
        for found in re.findall(r"^GRPC_GENERATED_VERSION = '([0-9.]+)'$", path.read_text(), re.MULTILINE)
    }
    assert {_version(one) for one in asked} == {_floor("grpcio")}


def test_floor_of_protobuf() -> None:
    """pyproject.toml allows no protobuf that is older than what the generated messages require."""
    call = re.compile(r"ValidateProtobufRuntimeVersion\(\s*[\w.]+,\s*(\d+),\s*(\d+),\s*(\d+),")
    found = [call.search(path.read_text()) for path in GENERATED.glob("*_pb2.py")]
    (asked,) = {tuple(map(int, one.groups())) for one in found if one}
    assert asked <= _floor("protobuf")
    assert None not in found


def test_java_gets_one_class_of_each_name() -> None:
    """The class that Java makes of each proto file has another name than all messages, enums and services."""
    texts = [(path, path.read_text()) for path in PROTOS.glob("*.proto")]
    declared = re.compile(r"^(?:message|enum|service) (\w+)", re.MULTILINE)
    types = Counter(name for _, text in texts for name in declared.findall(text))
    assert set(types.values()) == {1}
    for path, text in texts:
        named = re.search(r'java_outer_classname = "(\w+)"', text)
        name = named[1] if named else path.stem.title().replace("_", "")
        # A name that the file itself declares gets OuterClass appended by protoc.
        assert name in declared.findall(text) or not types[name], name


def _reasons() -> set[str]:
    names = set(errors_pb2.ErrorReason.keys()) - {"ERROR_REASON_UNSPECIFIED"}
    return {name.removeprefix("ERROR_REASON_") for name in names}


def test_every_reason_has_one_class() -> None:
    """Each reason of the contract has exactly one error class, and each class has a reason of the contract."""
    given = Counter(cls.reason for cls in all_error_classes())
    assert given == Counter(_reasons())


def test_codes_in_the_reasons_comments() -> None:
    """The status code that the contract names for a reason is that of its class."""
    text = (PROTOS / "errors.proto").read_text()
    comment = r"^  // ([A-Z_]+): (?:.*\n  //)*.*\n  ERROR_REASON_(\w+) = "
    named = {reason: code for code, reason in re.findall(comment, text, re.MULTILINE)}
    assert set(named) == _reasons()
    for cls in all_error_classes():
        assert named[cls.reason] == cls.code.name


@pytest.mark.parametrize("path", sorted(PROTOS.glob("*.proto")), ids=lambda path: path.stem)
def test_codes_in_the_methods_comments(path: Path) -> None:
    """The `CODE / REASON` lines in the comments of services and methods have the code of the reason."""
    codes = {cls.reason: cls.code.name for cls in all_error_classes()}
    for code, reason in re.findall(r"// - ([A-Z_]+) / ([A-Z_]+): ", path.read_text()):
        assert reason in _reasons()
        assert code == codes.get(reason, code), reason
