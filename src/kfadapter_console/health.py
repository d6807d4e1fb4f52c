"""What the page knows about itself, the adapter and KFP: versions, addresses, and the doctor's findings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.routing import Route

from kfadapter_console import page
from kfadapter_grpc.doctor.caller import examine
from kfadapter_grpc.doctor.verdict import Status
from kfadapter_grpc.version import installed_version

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response


def show(request: Request) -> Response:
    """Runs the doctor's checks of a caller."""
    calls = page.client(request)
    verdicts = list(examine(calls))
    can_read = any(one.check == "read" and one.status is Status.OK for one in verdicts)
    facts = [
        ("Adapter", calls.target),
        ("Version of the adapter", calls.adapter_version() if can_read else "unknown"),
        ("Page", f"{request.url.scheme}://{request.url.netloc}"),
        ("Version of the page", installed_version()),
    ]
    counts = [(sum(one.status is status for one in verdicts), status.value) for status in Status]
    return page.render(request, "health.html", facts=facts, verdicts=verdicts, counts=counts, target=calls.target)


ROUTES = [Route("/health", show)]
