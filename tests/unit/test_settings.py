from __future__ import annotations

import itertools
from dataclasses import fields
from typing import TYPE_CHECKING

import pytest

from kfadapter_grpc.addresses import split_address
from kfadapter_grpc.setting_sources import SettingsError, declared
from kfadapter_grpc.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def toml(tmp_path: Path) -> Callable[[str], Path]:
    """Writes settings files."""
    numbers = itertools.count()

    def write(text: str) -> Path:
        path = tmp_path / f"kfadapter{next(numbers)}.toml"
        path.write_text(text)
        return path

    return write


def mistakes(*, config: Path | None = None, **flags: object) -> tuple[str, ...]:
    """Loads invalid settings; returns the messages."""
    with pytest.raises(SettingsError) as caught:
        Settings.load(config=config, **flags)
    assert str(caught.value) == "\n".join(caught.value.lines)
    return caught.value.lines


def test_defaults() -> None:
    """By default the server listens on loopback and expects KFP there."""
    settings = Settings.load()
    assert (settings.listen, settings.kfp_url) == ("127.0.0.1:50051", "http://127.0.0.1:8888")
    assert settings.max_upload_bytes == 32 * 2**20


def test_later_sources_win(monkeypatch: pytest.MonkeyPatch, toml: Callable[[str], Path]) -> None:
    """Flags take precedence over the file, the file over the environment, the environment over defaults."""
    for name in ("MAX_UPLOADS", "MAX_STREAMS", "MAX_UNARY_CALLS"):
        monkeypatch.setenv(f"KFADAPTER_{name}", "1")
    config = toml("max_streams = 2\nmax_unary_calls = 2\n")
    settings = Settings.load(config=config, max_unary_calls=3)
    assert (settings.max_uploads, settings.max_streams, settings.max_unary_calls) == (1, 2, 3)


def test_flag_that_is_not_set() -> None:
    """None stands for an unset flag."""
    assert Settings.load(listen=None).listen == "127.0.0.1:50051"


def test_file_from_the_environment(monkeypatch: pytest.MonkeyPatch, toml: Callable[[str], Path]) -> None:
    """KFADAPTER_CONFIG names the file; a file named by a flag is read instead of it."""
    monkeypatch.setenv("KFADAPTER_CONFIG", str(toml("max_uploads = 5")))
    assert Settings.load().max_uploads == 5
    assert Settings.load(config=toml("max_uploads = 6")).max_uploads == 6


def test_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty variable counts as unset."""
    monkeypatch.setenv("KFADAPTER_MAX_UPLOADS", "")
    assert Settings.load().max_uploads == 16


@pytest.mark.parametrize(
    ("variables", "url"),
    [
        ({"KUBEFLOW_HOST": "ml-pipeline", "KUBEFLOW_PORT": "8888"}, "http://ml-pipeline:8888/pipeline"),
        ({"KUBEFLOW_HOST": "ml-pipeline"}, "http://ml-pipeline/pipeline"),
        ({"KUBEFLOW_PORT": "8888"}, "http://127.0.0.1:8888"),
        ({"KUBEFLOW_HOST": "old", "KFADAPTER_KFP_URL": "http://new:1"}, "http://new:1"),
    ],
)
def test_old_variables(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], url: str) -> None:
    """The Flask adapter's variables are the address of KFP if nothing newer is set."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert Settings.load().kfp_url == url


def test_file_wins_over_old_variables(monkeypatch: pytest.MonkeyPatch, toml: Callable[[str], Path]) -> None:
    """The file takes precedence over the Flask adapter's variables."""
    monkeypatch.setenv("KUBEFLOW_HOST", "old")
    assert Settings.load(config=toml('kfp_url = "http://new:1"')).kfp_url == "http://new:1"


def test_old_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    """KF_NAMESPACE is the namespace if KFADAPTER_NAMESPACE is unset."""
    monkeypatch.setenv("KF_NAMESPACE", "team-a")
    assert Settings.load().namespace == "team-a"
    monkeypatch.setenv("KFADAPTER_NAMESPACE", "team-b")
    assert Settings.load().namespace == "team-b"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("http://kfp:8888/", "http://kfp:8888"),
        ("https://kfp.example/ml/pipeline/", "https://kfp.example/ml/pipeline"),
        ("http://[::1]:8888", "http://[::1]:8888"),
    ],
)
def test_kfp_url(given: str, kept: str) -> None:
    """A URL may have a path prefix; a trailing slash is removed."""
    assert Settings.load(kfp_url=given).kfp_url == kept


@pytest.mark.parametrize(
    ("url", "output"),
    [
        ("kfp:8888", "must begin with http:// or https://"),
        ("http://", "must begin with http:// or https://"),
        ("ftp://kfp", "must begin with http:// or https://"),
        ("http://kfp:port", "Port could not be cast"),
        ("http://kfp/?a=b", "without ? and #"),
        ("http://me:canary@kfp", "must not hold a user or a password"),
    ],
)
def test_bad_kfp_url(url: str, output: str) -> None:
    """An invalid URL is rejected with a message that does not show a password in it."""
    (line,) = mistakes(kfp_url=url)
    assert output in line
    assert "KFADAPTER_KFP_URL" in line
    assert "canary" not in line


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "127.8.8.8:1", "localhost:50051", "[::1]:65535"])
def test_loopback(listen: str) -> None:
    """Loopback addresses need no flag."""
    assert Settings.load(listen=listen).listen == listen


@pytest.mark.parametrize("listen", ["0.0.0.0:50051", "[::]:50051", "10.0.0.1:50051", "kfadapter.example:50051"])
def test_reachable_address_needs_a_flag(listen: str) -> None:
    """An address that is reachable from other machines is only accepted with the flag that names the risk."""
    (line,) = mistakes(listen=listen)
    assert "--insecure-listen" in line
    assert "without TLS calls and their tokens can be read and changed in transit" in line
    assert Settings.load(listen=listen, insecure_listen=True).listen == listen


@pytest.mark.parametrize("listen", ["", "50051", ":50051", "127.0.0.1", "::1:50051", "127.0.0.1:x", "127.0.0.1:65536"])
def test_bad_address(listen: str) -> None:
    """An invalid address is rejected."""
    (line,) = mistakes(listen=listen)
    assert line.startswith("listen (KFADAPTER_LISTEN): must ")


def test_split_address() -> None:
    """An IPv6 address loses its brackets."""
    assert split_address("[::1]:50051") == ("::1", 50051)


def test_all_mistakes_at_once(monkeypatch: pytest.MonkeyPatch, toml: Callable[[str], Path]) -> None:
    """Every mistake of every source is reported at once."""
    monkeypatch.setenv("KFADAPTER_MAX_UPLOADS", "many")
    config = toml('max_stream = 2\nlog_format = "xml"\nsome_thing = 1\n')
    lines = mistakes(config=config, listen="0.0.0.0:1", kfp_url="kfp", max_unary_calls=0)
    reported = {line.split(" ")[0].rstrip(":"): line for line in lines}
    assert set(reported) == {
        "max_uploads",
        "max_stream",
        "log_format",
        "some_thing",
        "insecure_listen",
        "kfp_url",
        "max_unary_calls",
    }
    assert reported["max_stream"].endswith("did you mean max_streams?")
    assert reported["some_thing"].endswith("unknown setting")
    assert reported["max_uploads"].startswith("max_uploads (KFADAPTER_MAX_UPLOADS): must be an integer")
    assert reported["max_uploads"].endswith("not 'many'")


def test_missing_file(tmp_path: Path) -> None:
    """A missing file is a mistake."""
    (line,) = mistakes(config=tmp_path / "none.toml")
    assert line.endswith("none.toml: file not found")


def test_file_that_is_no_toml(toml: Callable[[str], Path]) -> None:
    """A file that is not TOML is a mistake, reported with its position."""
    (line,) = mistakes(config=toml("max_uploads = = 3"))
    assert "not a TOML file" in line
    assert "line 1" in line


def test_upload_dir(tmp_path: Path) -> None:
    """The folder for uploads must exist."""
    assert Settings.load(upload_dir=tmp_path).upload_dir == tmp_path
    (line,) = mistakes(upload_dir=tmp_path / "none")
    assert "not a folder" in line


def test_artifacts(tmp_path: Path) -> None:
    """The file of stores must be valid, and the folder of artifacts must exist."""
    stores = tmp_path / "stores.yaml"
    stores.write_text("defaultPipelineRoot: s3://bucket/prefix")
    assert Settings.load(artifact_stores=stores, artifact_folder=tmp_path).artifact_stores == stores
    stores.write_text("defaultPipelineRoot: https://bucket/prefix")
    first, second = mistakes(artifact_stores=stores, artifact_folder=tmp_path / "none")
    assert "stores.yaml: 'https://bucket/prefix' does not begin with one of minio, s3, gs" in first
    assert "not a folder" in second


def test_log_level_in_any_case(monkeypatch: pytest.MonkeyPatch) -> None:
    """Log levels may be written in capitals."""
    monkeypatch.setenv("KFADAPTER_LOG_LEVEL", "WARNING")
    assert Settings.load().log_level == "warning"


def test_declarations() -> None:
    """Every setting is declared with its variable, its default and its description."""
    settings = declared(Settings)
    assert set(settings) == {one.name for one in fields(Settings)}
    for one in settings.values():
        assert (one.option.help or "").endswith(".")
        assert one.more.endswith(".") or not one.more
    assert (settings["max_uploads"].variable, settings["max_uploads"].default_text) == ("KFADAPTER_MAX_UPLOADS", "16")
    assert settings["upload_dir"].default_text == settings["log_format"].default_text == ""
