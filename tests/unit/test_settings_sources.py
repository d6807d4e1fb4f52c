from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kfadapter_grpc.setting_sources import (
    CLIENT_VARIABLES,
    OTHER_VARIABLES,
    PREFIX,
    SIBLINGS,
    SettingsError,
    TomlFile,
    declared,
)
from kfadapter_grpc.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]


@pytest.fixture
def toml(tmp_path: Path) -> Callable[[str | bytes], Path]:
    """Writes settings files."""
    numbers = itertools.count()

    def write(text: str | bytes) -> Path:
        path = tmp_path / f"kfadapter{next(numbers)}.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def mistakes(config: Path | None = None, **flags: object) -> tuple[str, ...]:
    """Loads invalid settings; returns the messages."""
    with pytest.raises(SettingsError) as caught:
        Settings.load(config=config, **flags)
    return caught.value.lines


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("KFADAPTER_LISTN", "KFADAPTER_LISTEN"),
        ("kfadapter_kfp_ulr", "KFADAPTER_KFP_URL"),
        ("KFADAPTER_TARGT", "KFADAPTER_TARGET"),
    ],
)
def test_a_variable_with_a_typo(variable: str, meant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown variable is a mistake, with a suggestion and without its value."""
    monkeypatch.setenv(variable, "canary")
    assert mistakes() == (f"{variable}: unknown variable; did you mean {meant}?",)


def test_a_variable_like_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """If no name is similar, none is suggested."""
    monkeypatch.setenv("KFADAPTER_QQQQ", "1")
    assert mistakes() == ("KFADAPTER_QQQQ: unknown variable",)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("KFADAPTER_SERVICE_HOST", "10.0.0.1"),
        ("KFADAPTER_SERVICE_PORT", "50051"),
        ("KFADAPTER_SERVICE_PORT_GRPC", "50051"),
        ("KFADAPTER_PORT", "tcp://10.0.0.1:50051"),
        ("KFADAPTER_PORT_50051_TCP", "tcp://10.0.0.1:50051"),
        ("KFADAPTER_PORT_50051_TCP_ADDR", "10.0.0.1"),
        ("KFADAPTER_METRICS_SERVICE_HOST", "10.0.0.1"),
        ("KFADAPTER_METRICS_PORT_9090_TCP_PROTO", "tcp"),
    ],
)
def test_what_kubernetes_sets(variable: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables that Kubernetes sets for Services called kfadapter are not mistakes."""
    monkeypatch.setenv(variable, value)
    Settings.load()


def test_a_port_that_kubernetes_did_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that only resembles one of Kubernetes is a mistake."""
    monkeypatch.setenv("KFADAPTER_PORT", "50051")
    (line,) = mistakes()
    assert line.startswith("KFADAPTER_PORT: unknown variable")


@pytest.mark.parametrize("name", ["notify_url", "legacy_http_listen", "family", *CLIENT_VARIABLES])
def test_variables_of_others(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables of the command line are not mistakes of the server."""
    monkeypatch.setenv(PREFIX + name.upper(), "x")
    Settings.load()


def test_all_variables_are_known() -> None:
    """Every variable in the source is a setting or in the list of the client's, and the list has no others."""
    named = {
        found
        for path in (ROOT / "src").rglob("*.py")
        for found in re.findall(r'"(?:env )?KFADAPTER_([A-Z][A-Z_]*)"|PREFIX \+ "([A-Z_]+)"', path.read_text("utf-8"))
    }
    names = {(one or other).lower() for one, other in named} - set(declared(Settings))
    assert {name for name in names if not name.startswith(SIBLINGS)} == set(OTHER_VARIABLES)


def test_the_place_of_what_is_no_toml(toml: Callable[[str | bytes], Path]) -> None:
    """A file that is not TOML is reported with line and column, also at its end."""
    path = toml("max_uploads = 1\nmax_streams = = 3\n")
    assert mistakes(path) == (f"{path}, line 2, column 15: not a TOML file: Invalid value",)
    (line,) = mistakes(path := toml('listen = "'))
    assert line.startswith(f"{path}, line 1, column 11: not a TOML file: ")
    path = toml(b"# \xea\xb0\x80\nlisten = '\xff'\n")
    assert mistakes(path) == (f"{path}, line 2: not a TOML file: it is not UTF-8",)


def test_the_place_of_a_wrong_value(toml: Callable[[str | bytes], Path]) -> None:
    """An invalid value and an unknown name in the file are reported with their lines, however the name is written."""
    path = toml('# max_uploads = 1\n\n"max_uploads" = "many"\nmax_stream = 2\n\n[elsewhere]\nkey = 1\n')
    assert mistakes(path) == (
        (f"max_uploads ({path}, line 3): must be an integer, not 'many'"),
        f"max_stream ({path}, line 4): unknown setting; did you mean max_streams?",
        f"elsewhere ({path}, line 6): unknown setting",
    )


def test_a_flag_in_place_of_the_file(toml: Callable[[str | bytes], Path]) -> None:
    """An invalid flag is not reported as a mistake of the file that it overrides."""
    (line,) = mistakes(toml("max_uploads = 3"), max_uploads=0)
    assert line.startswith("max_uploads (KFADAPTER_MAX_UPLOADS): ")


def test_mistakes_of_all_sources(toml: Callable[[str | bytes], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that cannot be read does not hide other mistakes."""
    monkeypatch.setenv("KFADAPTER_LISTN", "x")
    monkeypatch.setenv("KFADAPTER_MAX_STREAMS", "0")
    lines = mistakes(toml("= 1"), kfp_url="kfp")
    assert [line.split()[0].rstrip(":,") for line in lines][1:] == ["KFADAPTER_LISTN", "kfp_url", "max_streams"]
    assert "not a TOML file" in lines[0]


def test_where_settings_come_from(toml: Callable[[str | bytes], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every setting has its effective value and the source of it."""
    monkeypatch.setenv("KFADAPTER_MAX_UPLOADS", "1")
    monkeypatch.setenv("KFADAPTER_MAX_STREAMS", "1")
    monkeypatch.setenv("KFADAPTER_LOG_LEVEL", "")
    monkeypatch.setenv("KF_NAMESPACE", "team-a")
    path = toml("\nmax_streams = 2\nmax_unary_calls = 2\n")
    settings, effective = Settings.load_traced(config=path, max_unary_calls=3, reflection=None)
    assert [one.name for one in effective] == list(declared(Settings))
    reported = {one.name: (one.value, one.source) for one in effective}
    assert reported["max_uploads"] == ("1", "environment KFADAPTER_MAX_UPLOADS")
    assert reported["max_streams"] == ("2", f"file {path}, line 2")
    assert reported["max_unary_calls"] == ("3", "flag --max-unary-calls")
    assert reported["namespace"] == ("team-a", "environment KF_NAMESPACE")
    assert reported["log_level"] == ("info", "default")
    assert reported["upload_dir"] == ("", "default")
    assert reported["reflection"] == ("true", "default")
    assert settings.max_streams == 2


def test_no_file() -> None:
    """Without a file there is nothing to read, and no mistake."""
    assert TomlFile.read(None) == TomlFile()


def test_a_folder_in_place_of_a_file(tmp_path: Path) -> None:
    """A folder is not accepted as a settings file."""
    assert mistakes(tmp_path) == (f"{tmp_path}: file not found",)
