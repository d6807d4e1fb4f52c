"""Checks from the server's side: settings, folder, addresses, and the Kubeflow Pipelines behind it."""

from __future__ import annotations

import errno
import http.client
import shutil
import tempfile
from collections.abc import Callable, Generator
from http import HTTPStatus
from pathlib import Path

from msgspec import UNSET

from kfadapter_grpc.addresses import OFF, is_loopback, split_address
from kfadapter_grpc.auth.access_rules import Match, parse_rules
from kfadapter_grpc.auth.certificates import check_certificate
from kfadapter_grpc.auth.issuers import parse_issuers
from kfadapter_grpc.auth.tokens import parse_tokens
from kfadapter_grpc.cli.errors import ExitCode
from kfadapter_grpc.client import Client
from kfadapter_grpc.contract.errors import AdapterError
from kfadapter_grpc.daemon.listening import try_address
from kfadapter_grpc.daemon.metrics_endpoint import PATH as METRICS_PATH
from kfadapter_grpc.doctor import issuers, kfp, sources
from kfadapter_grpc.doctor.verdict import Verdict, certificate, failed, ok, skipped, warning
from kfadapter_grpc.metrics.catalog import BUILD
from kfadapter_grpc.server.kfp import transport_settings
from kfadapter_grpc.setting_sources import SettingsError
from kfadapter_grpc.settings import Settings

MEMORY_FILE_SYSTEMS = frozenset({"tmpfs", "ramfs"})
_MOUNTS = Path("/proc/self/mountinfo")
_METRICS = "metrics address"
_KNOWN_BY = {
    **dict.fromkeys(("issuer", "subject", "groups", "claims"), "issuers"),
    "certificate": "tls_client_ca",
    "token": "token_file",
}
"""The settings without which a condition of an access rule cannot match."""
_WAYS = {"issuer": "issuers", "token-review": "issuers", "certificate": "tls_client_ca", "token-file": "token_file"}
_RESPONSE_BYTES = 4 * 2**20
_REQUEST_SECONDS = 3
_ANY_HOST = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not listened on


def examine(config: Path | None, *, write: bool, **flags: object) -> Generator[Verdict, None, None]:
    """Yields the result of each check as soon as it is known. Close it when stopping early.

    With `write` a pipeline and a run are made in KFP, and deleted; `flags` are settings that override all others.
    """
    try:
        settings, effective = Settings.load_traced(config=config, **flags)
    except SettingsError as error:
        for line in error.lines:
            yield failed(
                "settings",
                line,
                why="kfadapter serve would not start",
                next_step="correct it; kfadapter serve --check prints all settings",
                exit_code=ExitCode.USAGE,
            )
        yield skipped("everything else", "the settings are invalid")
        return
    configured = sum(setting.source != "default" for setting in effective)
    yield ok("settings", f"all are valid; {configured} of {len(effective)} are set, the others are defaults")
    for check in LOCAL_CHECKS:
        yield check(settings)
    yield from issuers.examine(settings)
    yield from kfp.examine(transport_settings(settings), settings.namespace, write=write)
    yield from sources.examine(settings)


def upload_folder(settings: Settings) -> Verdict:
    """Whether uploads are stored on a real disk with enough space for the maximum number of uploads."""
    folder = settings.upload_dir or Path(tempfile.gettempdir())
    kind = file_system(folder, _MOUNTS.read_text("utf-8", "replace") if _MOUNTS.exists() else "")
    if kind in MEMORY_FILE_SYSTEMS:
        return warning(
            "upload folder",
            f"{folder} is in memory ({kind})",
            why="files in transit count as memory of the adapter, which may be killed for it",
            next_step="name a folder on a disk: KFADAPTER_UPLOAD_DIR, in Kubernetes an emptyDir without a medium",
        )
    free, needed = shutil.disk_usage(folder).free, settings.max_uploads * settings.max_upload_bytes
    if free < needed:
        return warning(
            "upload folder",
            f"{folder} has {_mib(free)} left",
            why=f"{settings.max_uploads} uploads of {_mib(settings.max_upload_bytes)} at once need {_mib(needed)}",
            next_step="free space, or lower KFADAPTER_MAX_UPLOADS",
        )
    return ok("upload folder", f"{folder} is on a disk ({kind or 'of unknown kind'}) with {_mib(free)} left")


def file_system(folder: Path, mounts: str) -> str:
    """Returns the kind of file system of a folder, by /proc/self/mountinfo; empty if it is unknown."""
    path, kind, longest = folder.resolve(), "", -1
    for line in mounts.splitlines():
        before, separator, after = line.partition(" - ")
        point = Path(before.split()[4].encode("latin-1", "replace").decode("unicode_escape")) if separator else path
        if separator and path.is_relative_to(point) and len(point.parts) >= longest:
            kind, longest = after.split()[0], len(point.parts)
    return kind


def server_certificate(settings: Settings) -> Verdict:
    """Whether TLS is on, and when the server's certificate expires."""
    if settings.tls_certificate is not None:
        leaf = check_certificate(settings.tls_certificate.read_bytes())
        return certificate("certificate", f"{settings.tls_certificate}", leaf.not_valid_after_utc.timestamp())
    if is_loopback(split_address(settings.listen)[0]):
        return ok("certificate", "none is needed: only this machine can reach the address")
    return warning(
        "certificate",
        f"other machines can reach {settings.listen}, and there is no TLS",
        why="calls, and the tokens with them, can be read and changed in transit",
        next_step="set KFADAPTER_TLS_CERTIFICATE and KFADAPTER_TLS_KEY",
    )


def callers(settings: Settings) -> Verdict:
    """Whether callers are authenticated, and whether any token is still valid."""
    if settings.token_file is not None:
        tokens = parse_tokens(settings.token_file.read_bytes())
        summary = f"{len(tokens)} tokens in {settings.token_file}, {tokens.expired} of them expired"
        if tokens.expired < len(tokens):
            return ok("callers", summary)
        return failed("callers", summary, why="no client can call", next_step="kfadapter token creates a new one")
    if settings.issuers is not None:
        return ok("callers", f"authenticate by signed tokens of the issuers in {settings.issuers}")
    if settings.tls_client_ca is not None:
        return ok("callers", f"authenticate by certificates of the CA {settings.tls_client_ca}")
    if is_loopback(split_address(settings.listen)[0]):
        return ok("callers", "are not authenticated; only this machine can reach the address")
    return warning(
        "callers",
        "are not authenticated",
        why=f"every client that reaches {settings.listen} has all rights",
        next_step="set KFADAPTER_TOKEN_FILE, KFADAPTER_ISSUERS or KFADAPTER_TLS_CLIENT_CA",
    )


def access_rules(settings: Settings) -> Verdict:
    """Whether rules give callers roles in namespaces; a mistake in their file is one of the settings."""
    if settings.access_rules is None:
        return ok("access rules", "none: the role of a caller is the same in all namespaces")
    matches = parse_rules(settings.access_rules.read_bytes()).matches
    missing = [unset for match in matches if (unset := _unset(match, settings))]
    if missing:
        return warning(
            "access rules",
            f"{len(missing)} of the {len(matches)} rules in {settings.access_rules} match no caller",
            why=f"their conditions need callers with {' and '.join(sorted(set().union(*missing)))}",
            next_step="set it, or remove these rules",
        )
    open_to_all = sum(_matches_any_issuer(match) for match in matches)
    accepted = parse_issuers(settings.issuers.read_bytes()) if open_to_all and settings.issuers else None
    if accepted and len(accepted.issuers) + (accepted.token_review is not None) > 1:
        return warning(
            "access rules",
            f"{open_to_all} of the {len(matches)} rules in {settings.access_rules} match the tokens of every issuer",
            why="another issuer may use the same subjects, groups and claims",
            next_step="set the issuer, or the way, in these rules",
        )
    return ok(
        "access rules",
        f"{settings.access_rules} is valid; callers that match none of its {len(matches)} rules have no rights",
    )


def _unset(match: Match | str, settings: Settings) -> set[str]:
    """The settings that are unset, and without which no caller can match."""
    if isinstance(match, str):
        return set()
    needed = {setting for name, setting in _KNOWN_BY.items() if getattr(match, name) is not UNSET}
    if match.way is not UNSET:
        needed.add(_WAYS[match.way])
    return {setting for setting in needed if getattr(settings, setting) is None}


def _matches_any_issuer(match: Match | str) -> bool:
    """Whether a rule compares claims without naming the issuer."""
    if isinstance(match, str) or match.issuer is not UNSET or match.way is not UNSET:
        return False
    return any(condition is not UNSET for condition in (match.subject, match.groups, match.claims))


def listening(settings: Settings) -> Verdict:
    """Whether the address is free, or an adapter already listens there."""
    identify = _identify if settings.tls_certificate is None else _identify_tls
    return _address("address", settings.listen, "KFADAPTER_LISTEN", identify)


def listening_for_health(settings: Settings) -> Verdict:
    """The same for the address of health checks."""
    if not settings.health_listen:
        return ok("health address", "none: health is served at the adapter's address")
    return _address("health address", settings.health_listen, "KFADAPTER_HEALTH_LISTEN", _identify)


def listening_for_metrics(settings: Settings) -> Verdict:
    """The same for the address of metrics, where an adapter serves its own."""
    if settings.metrics_listen in ("", OFF):
        return ok(_METRICS, "off: the adapter cannot be monitored")
    return _address(_METRICS, settings.metrics_listen, "KFADAPTER_METRICS_LISTEN", _identify_metrics)


def _address(check: str, listen: str, variable: str, identify: Callable[[str, str, str], Verdict]) -> Verdict:
    try:
        try_address(listen)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return identify(check, listen, variable)
        return failed(
            check,
            f"cannot listen on {listen}",
            why=error.strerror or str(error),
            next_step=f"choose an address of this machine and a port above 1023: {variable}",
        )
    return ok(check, f"{listen} is free")


def _identify(check: str, listen: str, variable: str) -> Verdict:
    """Detects the server that listens there."""
    try:
        with Client(_reachable_address(listen), timeout=_REQUEST_SECONDS, tls=False, insecure_token=True) as client:
            client.health()
    except AdapterError:
        return _in_use_by_other(check, listen, variable)
    return ok(check, f"an adapter already listens on {listen}")


def _identify_tls(check: str, listen: str, _: str) -> Verdict:
    """An adapter with TLS may require a certificate that only its clients have."""
    return warning(
        check,
        f"{listen} is in use",
        why="with TLS only a client can detect whether by an adapter",
        next_step=f"kfadapter --target {_reachable_address(listen)} --ca FILE doctor",
    )


def _identify_metrics(check: str, listen: str, variable: str) -> Verdict:
    """Requests metrics there."""
    if BUILD.name.encode() not in _get(listen, METRICS_PATH):
        return _in_use_by_other(check, listen, variable)
    return ok(check, f"an adapter already serves its metrics on {listen}")


def _get(listen: str, path: str) -> bytes:
    """The HTTP response there; empty if it is not a success."""
    host, port = split_address(_reachable_address(listen))
    line = http.client.HTTPConnection(host, port, timeout=_REQUEST_SECONDS)
    try:
        line.request("GET", path)
        response = line.getresponse()
        return response.read(_RESPONSE_BYTES) if response.status == HTTPStatus.OK else b""
    except (OSError, http.client.HTTPException):
        return b""
    finally:
        line.close()


def _in_use_by_other(check: str, listen: str, variable: str) -> Verdict:
    return failed(
        check,
        f"{listen} is in use, and not by an adapter",
        why="kfadapter serve would not start",
        next_step=f"stop that server, or choose another address: {variable}",
    )


def _reachable_address(listen: str) -> str:
    """The address at which this machine reaches a listen address."""
    host, port = split_address(listen)
    near = _ANY_HOST.get(host, host)
    return f"[{near}]:{port}" if ":" in near else f"{near}:{port}"


def _mib(size: int) -> str:
    return f"{size // 2**20} MiB"


LOCAL_CHECKS: tuple[Callable[[Settings], Verdict], ...] = (
    server_certificate,
    callers,
    access_rules,
    upload_folder,
    listening,
    listening_for_health,
    listening_for_metrics,
)
