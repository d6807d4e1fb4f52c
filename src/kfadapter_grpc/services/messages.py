"""Makes messages of records, as callers are sent them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

from google.protobuf.message_factory import GetMessageClass

from kfadapter.v1 import run_pb2
from kfadapter_grpc.codec import to_message
from kfadapter_grpc.contract.values import Replacements
from kfadapter_grpc.services.sizes import shortened

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor
    from google.protobuf.message import Message

    from kfadapter_grpc.contract.listing import Page

M = TypeVar("M", bound="Message")


def message(record: object, kind: type[M]) -> M:
    """Makes a message. What it cannot carry is replaced, and what is too long is cut; the warnings of a run say so."""
    replaced = Replacements()
    made = to_message(record, kind, replaced)
    if not isinstance(made, run_pb2.Run):
        shortened(made)
        return made
    made.warnings.extend(replaced.texts())
    made.warnings.extend(shortened(made))
    return made


def page(found: Page[Any], kind: type[M], next_page_token: str) -> M:
    """Makes the answer of a List."""
    items = kind.DESCRIPTOR.fields[0]
    of_item = GetMessageClass(cast("Descriptor", items.message_type))
    return kind(
        **{items.name: [message(one, of_item) for one in found.items]},
        next_page_token=next_page_token,
        total_size=found.total_size,
    )
