"""Writes the documents that are made from the code: errors, settings, metrics, doctor (.md) and reference/ in docs/.

document.py            write them
document.py --check    fail if what is committed differs
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it also runs by its path

import yaml
from scripts import api_reference, cli_reference

from kfadapter_grpc.contract.errors import AdapterError, all_error_classes
from kfadapter_grpc.kfp.error_table import ROWS, Row
from kfadapter_grpc.kfp.probes import PROBES
from kfadapter_grpc.metrics.catalog import CATALOG, NOTIFY_CATALOG, Metric
from kfadapter_grpc.settings import setting_rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference"
ALERTS = ROOT / "deploy" / "alerts" / "kfadapter.rules.yaml"
PROTO = ROOT / "protos" / "kfadapter" / "v1" / "errors.proto"

ERRORS_HEAD = """# Errors

A failed call carries a gRPC status and, in its details, a stable reason. Programs should decide by the reason; the
message is for people. The details are those of `google.rpc`: ErrorInfo (domain `kfadapter`, the reason, the values of
the message), BadRequest (one violation for each wrong field), ResourceInfo (what is missing or in the way), RetryInfo
(how long to wait), RequestInfo (the request id, which is in the server's log and in the trailer `x-request-id`, too).

Two failures are gRPC's own and carry no reason: messages over 4 MiB and metadata over 16 KiB (RESOURCE_EXHAUSTED).

This page is made by `scripts/document.py` from `protos/kfadapter/v1/errors.proto` and
`src/kfadapter_grpc/kfp/error_table/`.

## Reasons

| Reason | Code | Meaning, and what to do |
|---|---|---|
"""

ERRORS_MIDDLE = """
## What Kubeflow Pipelines says, and what it means

KFP blurs many cases. Where status and words do not tell, the adapter looks after the failure, never before: a call
that succeeds pays nothing for it. The first row that fits is taken; what fits none is `KFP_ERROR` with KFP's own words
(its stack traces are never shown). Where it matters as whom KFP was asked, the adapter with its own credentials or the
caller with theirs, the row says so. "Proof" names a recorded exchange with a real KFP (in `tests/data/transcripts/`) or
a fault that the tests make.

| Asked of KFP | Asked as | Status | Its words match | The look shows | Reason | Proof |
|---|---|---|---|---|---|---|
"""


SETTINGS_HEAD = """# Settings

What `kfadapter serve` can be told: by the environment, by a TOML file (`--config`, or `KFADAPTER_CONFIG`), or by flags
(`kfadapter serve --help`); the later wins. This page is made by `scripts/document.py`.

`kfadapter serve --check` starts nothing: it prints every setting with where it comes from and exits with 0, or tells
all mistakes at once and exits with 2, as `kfadapter serve` would. A mistake is a wrong value, a file that is no TOML
(told with line and column), a folder that is not there, options that contradict each other, and a name that nothing
reads, in the file or in the environment: `KFADAPTER_LISTN` is not passed over. What Kubernetes puts into the
environment for a Service whose name begins with `kfadapter` is no mistake. Whether what the settings point to works,
[`kfadapter doctor`](doctor.md) tells.

| In the TOML file | In the environment | Default | |
|---|---|---|---|
"""


DOCTOR_HEAD = """# Doctor

`kfadapter doctor` checks a set-up and says what to do, one line for each check: `ok`, `warning` (it works, and could
be better), `failed`, or `skipped`; what was seen, why that matters, what to type next. `-o json` prints the same for
programs. The exit code is 0 if nothing failed, otherwise that of the first failure (`kfadapter --help` lists the
codes): 2 for wrong settings, 3 where something cannot be connected to, 4 where credentials are refused, 8 for anything
else.

## From the caller's end

`kfadapter doctor` asks an adapter, as `kfadapter --target HOST:PORT doctor`; the client's packages are enough.

| check | looks at |
|---|---|
| adapter | whether it can be connected to and answers |
| encryption | whether others on the network could read along; with TLS, when the adapter's certificate ends |
| health | the health that a Kubernetes probe asks for |
| services | the same for each service by its name |
| kfp | whether Kubeflow Pipelines answers the adapter |
| read | a cheap read: whether the caller is let in |
| version | whether adapter and client are the same version |
| clock | how far apart the two clocks are |
| reflection | whether grpcurl can do without the .proto files |

## From the server's end

`kfadapter doctor --server` runs where the adapter runs, with its environment: in Kubernetes `kubectl exec
deploy/kfadapter -- kfadapter doctor --server`. It takes the settings as `kfadapter serve` does, with `--config`,
`--kfp-url` and `--namespace`. It starts nothing and changes nothing.

| check | looks at |
|---|---|
| settings | all mistakes at once, as `kfadapter serve --check` |
| certificate | whether there is TLS where others can reach the address, and when the certificate ends |
| callers | whether they are asked who they are, and whether any token still counts |
| upload folder | whether it is on a disk, not in memory, with room for as many uploads as are taken at once |
| address, health address | whether it is free, or an adapter listens there already |
| metrics address | whether it is free, or an adapter answers with its metrics there already; or that metrics are off |
| HTTP address | the same for the [Flask adapter's routes](legacy-http.md), where they are answered |
| KFP name, connection, TLS, HTTP, API | how far a request gets, and where it ends; when KFP's certificate ends |
| KFP credentials, namespace | whether KFP lets the adapter in, and into its namespace |
| KFP clock | how far apart the two clocks are |
| KFP ... | each fact about KFP that the adapter leans on, see below |

A fact that does not hold is a warning where the adapter makes up for it, as for most of what 2.5 lacks, and a failure
where calls will fail. `--write-probes` also tries what cannot be seen without making something: it makes one pipeline
with a name that begins with `kfadapter-probe-` and one run of it, and deletes both, also when it is interrupted. The
run's only task waits and never works; it is deleted right after it was started.

## Measuring a Kubeflow Pipelines

`scripts/measure-kfp --kfp-url URL` prints the same facts as a table, beside what 2.17.0 and 2.5.0 were found to do,
with the time that each took and what the calls cost that the adapter makes most; `--markdown` prints tables for a
document. It exits with 0 when all facts hold that hold for 2.17.0, 1 when one does not, 3 when there is no KFP. The
facts are declared in `src/kfadapter_grpc/kfp/probes/catalog.py`, and `scripts/document.py` makes this page.

Never tried is what is known to hurt: malformed YAML, which KFP 2.5.0 and 2.17.0 never answer while a core is busy for
ever (so upload through the adapter, which checks the syntax first), and starting a second run with the same id, which
leaves a workflow behind. The newest run that has ended shows how a KFP was installed. What a version lacks stands
in [KFP versions](kfp-versions.md).

| fact | 2.17.0 | 2.5.0 | without it |
|---|---|---|---|
"""


METRICS_HEAD = """# Metrics and alerts

What Prometheus reads at `KFADAPTER_METRICS_LISTEN` ([observability.md](observability.md) says how to use it). This page
is made by `scripts/document.py` from the code and from `deploy/alerts/kfadapter.rules.yaml`.

## Metrics of the adapter

No label takes a text that a caller or KFP chooses, so the number of series is bounded: about 700 at the start, and
only those are added that stand for a code, a reason or a status which has come up. Of a histogram NAME there are
NAME_bucket, NAME_sum and NAME_count. Beside these stand the `process_*` metrics of the Prometheus client library:
memory, CPU time, open file descriptors and their limit, time of start.

| Metric | Kind | Labels | |
|---|---|---|---|
"""

NOTIFY_METRICS_HEAD = """
## Metrics of the notifier

What `kfadapter notify` tells at `KFADAPTER_NOTIFY_METRICS_LISTEN` ([notify.md](notify.md)), `process_*` beside it.

| Metric | Kind | Labels | |
|---|---|---|---|
"""

ALERTS_HEAD = """
## Alerts

| Alert | When | What is so, and what to do |
|---|---|---|
"""


def reasons() -> dict[str, str]:
    """The comment of each reason in errors.proto, without its code."""
    found = re.findall(r"((?:  // .*\n)+)  ERROR_REASON_(\w+) = \d+;", PROTO.read_text("utf-8"))
    comments = {name: " ".join(line.strip("/ ") for line in comment.strip().splitlines()) for comment, name in found}
    return {name: re.sub(r"^[A-Z_]+: ", "", text) for name, text in comments.items()}


def errors_page() -> str:
    """docs/errors.md."""
    comments = reasons()
    lines = [_reason_line(cls, comments[cls.reason]) for cls in all_error_classes()]
    return ERRORS_HEAD + "".join(lines) + ERRORS_MIDDLE + "".join(map(_case_line, ROWS))


def settings_page() -> str:
    """docs/settings.md."""
    rows = (f"| `{row.name}` | `{row.variable}` | {row.default} | {row.description} |\n" for row in setting_rows())
    return SETTINGS_HEAD + "".join(rows)


def doctor_page() -> str:
    """docs/doctor.md."""
    rows = (f"| {probe.sentence} | {probe.newer} | {probe.older} | {probe.without} |\n" for probe in PROBES)
    return DOCTOR_HEAD + "".join(rows)


def metrics_page() -> str:
    """docs/metrics.md."""
    groups = yaml.safe_load(ALERTS.read_text("utf-8"))["groups"]
    return (
        METRICS_HEAD
        + "".join(map(_metric_line, CATALOG))
        + NOTIFY_METRICS_HEAD
        + "".join(map(_metric_line, NOTIFY_CATALOG))
        + ALERTS_HEAD
        + "".join(_alert_line(one) for it in groups for one in it["rules"])
    )


def _metric_line(one: Metric) -> str:
    return f"| `{one.name}` | {one.kind} | {', '.join(f'`{label}`' for label in one.labels)} | {one.text} |\n"


def _alert_line(rule: Mapping[str, Any]) -> str:
    when = f"`{rule['expr']}`".replace("|", "\\|") + (f" for {rule['for']}" if "for" in rule else "")
    said = re.sub(r"{{ \$(?:labels\.)?(\w+)[^}]*}}", r"*\1*", f"{rule['annotations']['summary']}")
    what = f"{said} {rule['annotations']['description']}"
    return f"| {rule['alert']} ({rule['labels']['severity']}) | {when} | {what} |\n"


def all_pages() -> dict[Path, str]:
    """All pages by their paths."""
    return {
        DOCS / "errors.md": errors_page(),
        DOCS / "settings.md": settings_page(),
        DOCS / "doctor.md": doctor_page(),
        DOCS / "metrics.md": metrics_page(),
        **{REFERENCE / "api" / name: text for name, text in api_reference.pages().items()},
        **{REFERENCE / "cli" / name: text for name, text in cli_reference.pages().items()},
    }


def _reason_line(cls: type[AdapterError], comment: str) -> str:
    text = comment[0].upper() + comment[1:]
    return f"| `{cls.reason}` | {cls.code.name} | {text} |\n"


def _case_line(row: Row) -> str:
    asked = ", ".join(operation.value for operation in row.operations) or "anything"
    words = f"`{row.pattern}`".replace("|", "\\|") if row.pattern else "anything"
    who = {None: "", False: "adapter", True: "caller"}[row.as_caller]
    looked = row.seen.value if row.seen else ""
    statuses = ", ".join(map(str, row.statuses))
    proof = "; ".join(row.proof)
    return f"| {asked} | {who} | {statuses} | {words} | {looked} | `{row.error.reason}` | {proof} |\n"


def main() -> int:
    """Writes or checks the pages."""
    pages = all_pages()
    gone = [path for path in REFERENCE.rglob("*.md") if path not in pages]
    if "--check" in sys.argv[1:]:
        return check(pages, gone)
    for path, text in pages.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    for path in gone:
        path.unlink()
    return 0


def check(pages: Mapping[Path, str], gone: Sequence[Path]) -> int:
    """Names the pages that differ from what is committed, and those that nothing makes any more."""
    old = [path for path, text in pages.items() if not path.exists() or path.read_text("utf-8") != text]
    names = ", ".join(str(path.relative_to(ROOT)) for path in (*old, *gone))
    if names:
        sys.stderr.write(f"document: not current: {names}; run scripts/document.py\n")
    return 1 if names else 0


if __name__ == "__main__":
    sys.exit(main())
