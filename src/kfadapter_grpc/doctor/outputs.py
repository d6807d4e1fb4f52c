"""The way to inputs, outputs and metrics of runs of KFP 2.5 to 2.17: ML Metadata."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from kfadapter_grpc.cli.invocation import do
from kfadapter_grpc.contract.call import Call
from kfadapter_grpc.doctor.verdict import Verdict, ok, warning
from kfadapter_grpc.kfp.mlmd.store import MetadataStore, StoreError
from kfadapter_grpc.server.kfp import store_settings

if TYPE_CHECKING:
    from kfadapter_grpc.settings import Settings

CHECK = "outputs"
_SECONDS = 3.0
_ALONE = "inputs, outputs and metrics of runs of KFP 2.5 to 2.17 are not shown"


def examine(settings: Settings) -> Verdict:
    """Whether ML Metadata responds."""
    store = store_settings(settings)
    if store is None:
        return ok(CHECK, f"mlmd_address is unset: {_ALONE}")
    try:
        with closing(MetadataStore(store)) as reading:
            reading.check(Call("kfadapter-doctor", _SECONDS))
    except (StoreError, OSError) as error:
        step = "check mlmd_address, and whether the NetworkPolicy allows connections to its port"
        return warning(CHECK, str(error), why=_ALONE, next_step=do(step))
    return ok(CHECK, f"ML Metadata at {store.address} responds")
