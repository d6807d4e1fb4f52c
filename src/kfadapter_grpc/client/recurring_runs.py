"""Calls of RecurringRunService."""

from __future__ import annotations

from kfadapter_grpc.client.calls import Calls


class RecurringRunCalls(Calls):
    """Makes, finds, switches and deletes recurring runs."""
