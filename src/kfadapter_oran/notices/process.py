"""The notifier as a process: built from settings, ended by signals."""

from __future__ import annotations

import sys
from contextlib import ExitStack, closing
from datetime import timedelta
from typing import TYPE_CHECKING, Literal, cast

import structlog

from kfadapter_grpc.daemon.log import configure_logging
from kfadapter_grpc.daemon.log_writer import LogWriter
from kfadapter_grpc.daemon.metrics_endpoint import MetricsEndpoint
from kfadapter_grpc.daemon.signals import StopSignals
from kfadapter_grpc.version import running
from kfadapter_oran.notices.database import Database
from kfadapter_oran.notices.deliveries import Deliveries
from kfadapter_oran.notices.follower import Follower
from kfadapter_oran.notices.ledger import Ledger
from kfadapter_oran.notices.lock import only_one
from kfadapter_oran.notices.outbox import Outbox, utc_now
from kfadapter_oran.notices.receiver import Receiver
from kfadapter_oran.notices.sender import Sender
from kfadapter_oran.notices.state import NotifierState

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from kfadapter_grpc.client import Client
    from kfadapter_oran.notices.settings import NotifierSettings

FOLLOWER_SECONDS = 2.0
"""How long the threads that follow runs get to end."""
SENDER_SECONDS = 5.0
"""How long attempts that are under way get to be answered at the end."""
_CLOCKS_DIFFER = timedelta(minutes=1)


def run(settings: NotifierSettings, client: Client) -> int:
    """Sends notices until SIGTERM or SIGINT. For the main thread of a process; closes the client.

    Args:
        settings: What the notifier was told.
        client: Calls the adapter.

    Returns:
        The exit code, 0.

    Raises:
        OutboxError: The outbox cannot be used, is another namespace's, or another notifier works with it.
        ServerStartError: The address for metrics and health cannot be listened on.
    """
    with ExitStack() as stages:
        lines = stages.enter_context(LogWriter(sys.stderr))
        configure_logging(cast("Literal['console', 'json']", settings.log_format), settings.log_level, lines)
        log: FilteringBoundLogger = structlog.get_logger()
        log.info("starting", **running())
        stages.enter_context(closing(client))
        # 1. The outbox, alone.
        stages.enter_context(only_one(settings.outbox))
        database = stages.enter_context(closing(Database(settings.outbox, create=True)))
        outbox = Outbox(database)
        # KFP's clock may be behind ours; who ended a moment before the first start is told rather than missed.
        first = outbox.begin(settings.since or utc_now() - _CLOCKS_DIFFER, settings.namespace)
        # 2. What it tells of itself.
        state, metrics_address = NotifierState(Ledger(database), lines), "off"
        if settings.metrics_listen:
            endpoint = MetricsEndpoint(settings.metrics_listen, state.render, state.health)
            metrics_address = stages.enter_context(endpoint).address
        # 3. Signals, before anybody can have reason to send one.
        signals = stages.enter_context(StopSignals())
        # 4. Who sends, then who writes.
        sender = Sender(Deliveries(database, settings.max_attempts), Receiver(settings.receiver), state.count)
        follower = Follower(client, outbox, settings.keep, sender.wake)
        state.read_from(follower, sender)
        stages.callback(sender.stop, SENDER_SECONDS)
        stages.callback(follower.stop, FOLLOWER_SECONDS)
        sender.start()
        follower.start()
        about = {"adapter": client.target, "receiver": str(settings.receiver.url), "metrics": metrics_address}
        log.info("notifying", **about, outbox=str(settings.outbox), first_start=first)
        log.info("stopping", signal=signals.wait())
    return 0
