from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import pytest

from kfadapter_embedded import page_process
from kfadapter_embedded.dev import _page_line, banner, check_ports
from kfadapter_grpc.cli import errors as extras
from kfadapter_grpc.cli.command import command
from kfadapter_grpc.cli.errors import CommandError, ExitCode
from kfadapter_grpc.cli.serve import serve
from kfadapter_grpc.folders import state_folder
from kfadapter_grpc.setting_sources import REMOVED, declared
from kfadapter_grpc.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cli.conftest import Kfadapter


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A loopback port that is in use."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def test_every_setting_has_an_option() -> None:
    """Every server setting has an option; there are no others."""
    options = {one.name for one in command(serve).params}
    assert options == {*declared(Settings), *REMOVED, "config", "check"}


@pytest.mark.parametrize("name", ["log_format", "log_level", "kfp_credentials", "pod_logs"])
def test_an_unknown_choice(name: str, kfadapter: Kfadapter, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown choice is rejected, as an option and as a variable, with the list of choices."""
    setting = declared(Settings)[name]
    refused = [kfadapter("serve", "--check", f"--{name.replace('_', '-')}", "canary")]
    monkeypatch.setenv(setting.variable, "canary")
    refused.append(kfadapter("serve", "--check"))
    for ended in refused:
        assert (ended.code, ended.out) == (ExitCode.USAGE, "")
        assert all(choice in ended.err for choice in get_args(setting.kind))


def test_options_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """An option takes precedence over the environment; an option that is not set leaves the environment's value."""
    monkeypatch.setenv("KFADAPTER_NAMESPACE", "from-environment")
    assert Settings.load(namespace=None).namespace == "from-environment"
    assert Settings.load(namespace="from-option").namespace == "from-option"


def test_wrong_settings_are_a_usage_error(kfadapter: Kfadapter) -> None:
    """All mistakes are reported at once, with exit code 2."""
    ended = kfadapter("serve", "--listen", "nonsense", "--kfp-url", "ftp://x")
    assert (ended.code, ended.out) == (ExitCode.USAGE, "")
    assert "HOST:PORT" in ended.err
    assert "http://" in ended.err


def test_check_prints_the_settings(kfadapter: Kfadapter, tmp_path: Path) -> None:
    """Valid settings are printed with their sources, and no server is started."""
    config = tmp_path / "kfadapter.toml"
    config.write_text("max_uploads = 3\n")
    ended = kfadapter("serve", "--check", "--config", str(config), "--listen", "127.0.0.1:1")
    assert (ended.code, ended.err) == (ExitCode.OK, "settings are fine\n")
    rows = {line.split()[0]: line.split(maxsplit=2)[1:] for line in ended.out.splitlines()}
    assert set(rows) == {"SETTING", *declared(Settings)}
    assert rows["listen"] == ["127.0.0.1:1", "flag --listen"]
    assert rows["max_uploads"] == ["3", f"file {config}, line 1"]
    assert rows["max_streams"] == ["256", "default"]


def test_check_lists_every_mistake(kfadapter: Kfadapter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mistakes in flags, file and environment are reported at once, with exit code 2 and an empty stdout."""
    config = tmp_path / "kfadapter.toml"
    config.write_text('max_stream = 3\nupload_dir = "/no/such/folder"\n')
    monkeypatch.setenv("KFADAPTER_LISTN", "x")
    ended = kfadapter("serve", "--check", "--config", str(config), "--listen", "0.0.0.0:1")
    assert (ended.code, ended.out) == (ExitCode.USAGE, "")
    for output in ("KFADAPTER_LISTN: ", "max_stream (", "upload_dir (", "insecure_listen ("):
        assert f" {output}" in ended.err


def test_a_taken_port_is_named(kfadapter: Kfadapter, taken_port: int) -> None:
    """If the port is in use, the error names it, and the option to choose another."""
    ended = kfadapter("serve", "--listen", f"127.0.0.1:{taken_port}", "--metrics-listen", "off")
    assert (ended.code, ended.out) == (ExitCode.REFUSED, "")
    assert f"127.0.0.1:{taken_port}" in ended.err
    assert "another --listen" in ended.err


def test_a_taken_port_for_metrics_is_named(kfadapter: Kfadapter, taken_port: int) -> None:
    """If the metrics port is in use, the error names it, and the option to choose another."""
    ended = kfadapter("serve", "--listen", "127.0.0.1:0", "--metrics-listen", f"127.0.0.1:{taken_port}")
    assert (ended.code, ended.out) == (ExitCode.REFUSED, "")
    assert f"error: 127.0.0.1:{taken_port} is in use\n" in ended.err
    assert "another --metrics-listen" in ended.err


@pytest.mark.parametrize(("flag", "other"), [("--port", "--kfp-port"), ("--kfp-port", "--port")])
def test_dev_names_the_port_that_is_taken(
    flag: str, other: str, kfadapter: Kfadapter, taken_port: int, tmp_path: Path
) -> None:
    """Both ports are checked first, and the error names the flag for the one that is in use."""
    data = tmp_path / "data"
    ended = kfadapter("dev", flag, str(taken_port), other, "0", "--data", str(data))
    assert (ended.code, ended.out) == (ExitCode.REFUSED, "")
    user = "the adapter" if flag == "--port" else "the embedded KFP"
    assert f"error: port {taken_port}, which {user} would listen on, is in use\n" in ended.err
    assert f"{flag} 0\n       takes a free one\n" in ended.err
    assert not data.exists()


def test_any_free_port_is_free() -> None:
    """Port 0 is never in use, not even twice."""
    check_ports(0, 0)


def test_dev_needs_two_ports(kfadapter: Kfadapter, tmp_path: Path) -> None:
    """The same port for both is a usage error, reported before anything starts."""
    ended = kfadapter("dev", "--port", "8888", "--data", str(tmp_path / "data"))
    assert (ended.code, ended.out) == (ExitCode.USAGE, "")
    assert "port 8888 cannot be the adapter's and the embedded KFP's" in ended.err
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("command", ["serve", "dev"])
def test_missing_packages_are_named(command: str, kfadapter: Kfadapter, monkeypatch: pytest.MonkeyPatch) -> None:
    """If only the client is installed, the error names the command that installs the missing packages."""
    monkeypatch.setattr(extras, "find_spec", lambda _: None)
    ended = kfadapter(command)
    assert (ended.code, ended.out) == (ExitCode.USAGE, "")
    expected = "server" if command == "serve" else "server,embedded"
    assert f"next:  pip install 'kfadapter-grpc[{expected}]'\n" in ended.err


@pytest.mark.parametrize("below", [".", "data", "data/deeper"])
def test_a_file_in_the_way_is_reported(below: str, kfadapter: Kfadapter, tmp_path: Path) -> None:
    """A data folder that is a file, or is below one, is an error that names the file and the remedy."""
    file = tmp_path / "file"
    file.touch()
    ended = kfadapter("dev", "--port", "0", "--kfp-port", "0", "--data", str(file / below))
    assert (ended.code, ended.out) == (ExitCode.REFUSED, "")
    assert ended.err == (
        f"error: {file} is a file, not a folder\n"
        f"why:   the data folder would be {file / below}\n"
        "next:  the same command with another folder for --data\n"
    )


@pytest.mark.parametrize("arguments", [["dev", "--data", ""], ["serve", "--upload-dir", ""], ["upload", ""]])
def test_an_empty_path_is_a_usage_error(arguments: list[str], kfadapter: Kfadapter) -> None:
    """An empty path, as from an unset shell variable, is not the current folder but a usage error."""
    ended = kfadapter(*arguments)
    assert (ended.code, ended.out) == (ExitCode.USAGE, "")
    assert "an empty text is no path" in ended.err


@pytest.mark.parametrize(
    ("value", "expected"), [("/state", Path("/state/kfadapter")), ("relative", None), ("", None), (None, None)]
)
def test_data_folder_follows_xdg(value: str | None, expected: Path | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """An absolute XDG_STATE_HOME applies; otherwise the default below the home folder, as in the specification."""
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    if value is not None:
        monkeypatch.setenv("XDG_STATE_HOME", value)
    assert state_folder() == (expected or Path.home() / ".local" / "state" / "kfadapter")


def test_the_banner() -> None:
    """The banner has addresses, data, a command, a grpcurl line and how to stop; the default needs no --target."""
    lines = banner("127.0.0.1:50051", "http://127.0.0.1:8888", Path("/data")).splitlines()
    assert [line.split()[0] for line in lines] == ["adapter", "KFP", "data", "try", "grpcurl", "stop"]
    assert "try      kfadapter list" in lines
    assert "-d '{}' 127.0.0.1:50051 kfadapter.v1.PipelineService/List" in lines[4]
    assert "kfadapter --target 127.0.0.1:7 list" in banner("127.0.0.1:7", "x", Path("y"))
    assert banner("127.0.0.1:7", "x", Path("y"), "http://p").startswith("page     http://p\nadapter  ")


def test_the_port_of_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the usual port is in use, the page gets a free one, as the banner reports; without the extra it names it."""
    with socket.create_server((page_process.HOST, 0)) as other, page_process.listen(0) as named:
        taken = other.getsockname()[1]
        monkeypatch.setattr(page_process, "PORT", taken)
        with page_process.listen(None) as found:
            assert _page_line(found, None) == f"http://127.0.0.1:{found.getsockname()[1]} ({taken} is in use)"
        with pytest.raises(OSError, match="in use"):
            page_process.listen(taken)
        assert _page_line(named, 0) == f"http://127.0.0.1:{named.getsockname()[1]}"
    assert _page_line(None, None) == "pip install 'kfadapter-grpc[console]' adds a web page"
    monkeypatch.setattr(page_process, "_NEEDS", ("no_such_package",))
    assert not page_process.is_installed()


def test_missing_packages_stop_nothing_else() -> None:
    """Nothing is raised if all packages are installed; otherwise the missing ones are named."""
    extras.require(server=extras.SERVER, embedded=["uvicorn"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extras, "find_spec", lambda name: None if name == "uvicorn" else name)
        with pytest.raises(CommandError) as caught:
            extras.require(server=extras.SERVER, embedded=["uvicorn"])
    assert caught.value.why == "not installed: uvicorn"
