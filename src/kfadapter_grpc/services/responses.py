"""Methods of servicers, and their messages, small enough for every client: gRPC accepts 4 MiB by default."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar, cast

from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.struct_pb2 import Value

from kfadapter.v1 import run_pb2
from kfadapter_grpc.codec import read_request, to_message
from kfadapter_grpc.contract.call import Call
from kfadapter_grpc.contract.errors import FieldViolation, InvalidPageTokenError
from kfadapter_grpc.contract.listing import Page, PageOfListRequest, PageRequest
from kfadapter_grpc.contract.values import Replacements
from kfadapter_grpc.interceptors.calls import current_call
from kfadapter_grpc.methods import MESSAGES, METHOD_OF_REQUEST

if TYPE_CHECKING:
    import grpc
    from google.protobuf.descriptor import Descriptor

M = TypeVar("M", bound=Message)
R = TypeVar("R")
L = TypeVar("L", bound=PageOfListRequest)

MAX_RECORD_BYTES = 4 * 1024 * 1024 - 64 * 1024
"""The size limit of one record; leaves room for the message that it is sent in."""
_TEXT_LIMITS = (64 * 1024, 4 * 1024, 256)
"""How much is kept of each text; less if the record is still too large."""
_MAX_NOTES = 20
_MAX_PATH_CHARACTERS = 120
_VALUE_FIELDS = frozenset({"fields", "values", "string_value"})
"""Fields of protobuf's own, which have no place in JSON."""
_HASH_BYTES = 8
_MAX_TOKEN_CHARACTERS = 16 * 1024


def unary(kind: type[R], serve: Callable[[Any, R, Call], object]) -> Any:  # noqa: ANN401 - a method
    """Makes the method of an RPC that reads a request as `kind`; `serve` returns the record of its response.

    A servicer's `namespace` is the default one.
    """

    def method(servicer: Any, request: Message, context: grpc.ServicerContext) -> Message:  # noqa: ANN401
        parsed = read_request(request, kind, servicer.namespace)
        return message(serve(servicer, parsed, current_call(context)), _response_to(request))

    return method


def deletion(kind: type[R], serve: Callable[[Any, R, Call], bool]) -> Any:  # noqa: ANN401
    """The same for a deletion: the response has the id in the request, or an empty one if `serve` found nothing."""

    def method(servicer: Any, request: Any, context: grpc.ServicerContext) -> Message:  # noqa: ANN401
        response = _response_to(request)
        name = response.DESCRIPTOR.fields[0].name
        deleted = serve(servicer, read_request(request, kind), current_call(context))
        return response(**{name: getattr(request, name) if deleted else ""})

    return method


def listing(kind: type[L], serve: Callable[[Any, L, PageRequest, Call], Page[Any]]) -> Any:  # noqa: ANN401
    """The same for a List."""

    def method(servicer: Any, request: Message, context: grpc.ServicerContext) -> Message:  # noqa: ANN401
        parsed = read_request(request, kind, servicer.namespace)
        result = serve(servicer, parsed, parsed.page(page_token(request)), current_call(context))
        return page(result, _response_to(request), request)

    return method


def _response_to(request: Message) -> type[Message]:
    return MESSAGES[METHOD_OF_REQUEST[request.DESCRIPTOR.name].path][1]


def message(record: object, kind: type[M]) -> M:
    """Makes a message. What it cannot carry is replaced, long parts are truncated; the warnings of a run list both."""
    replaced = Replacements()
    made = to_message(record, kind, replaced)
    notes = truncate(made)
    if isinstance(made, run_pb2.Run):
        made.warnings.extend([*replaced.texts(), *notes])
    return made


# --- pages ----------------------------------------------------------------------------------------------------------


def page(result: Page[Any], kind: type[M], request: Message, **more: object) -> M:
    """Makes the response of a List, with `more` fields; its token is bound to the listing of `request`.

    The token is base64url of a hash of the listing (method, filters, order) and of the token of kfp/. It is not signed,
    so any replica reads it.
    """
    field = kind.DESCRIPTOR.fields[0]
    kind_of_item = GetMessageClass(cast("Descriptor", field.message_type))
    token = _listing_hash(request) + result.next_token.encode() if result.next_token else b""
    if result.total_size is not None:
        more["total_size"] = result.total_size
    return kind(
        **{field.name: [message(item, kind_of_item) for item in result.items], **more},
        next_page_token=base64.urlsafe_b64encode(token).decode().rstrip("="),
    )


def page_token(request: Message) -> str:
    """Extracts the token of kfp/ from that of a List; raises if it is malformed, or of another listing."""
    encoded = cast("Any", request).page_token
    if not encoded:
        return ""
    try:
        if len(encoded) > _MAX_TOKEN_CHARACTERS:
            raise ValueError
        raw = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
        token = raw[_HASH_BYTES:].decode()
    except (ValueError, binascii.Error) as error:
        raise _invalid_token("it is garbled") from error
    if not token:
        raise _invalid_token("it is garbled")
    if raw[:_HASH_BYTES] != _listing_hash(request):
        raise _invalid_token("it came from a listing with another method, filter, order or pipeline")
    return token


def _listing_hash(request: Message) -> bytes:
    """A hash of everything that identifies a listing, without the page."""
    same = type(request)()
    same.CopyFrom(request)
    same.ClearField("page_size")
    same.ClearField("page_token")
    data = same.DESCRIPTOR.full_name.encode() + same.SerializeToString(deterministic=True)
    return hashlib.sha256(data).digest()[:_HASH_BYTES]


def _invalid_token(why: str) -> InvalidPageTokenError:
    text = f"the page token is not one of this listing: {why}; start again without a token"
    return InvalidPageTokenError(text, violations=[FieldViolation("page_token", text)])


# --- records that are too large -------------------------------------------------------------------------------------


def truncate(message: Message) -> list[str]:
    """Truncates the longest texts and values of a record that is too large, then its lists.

    Returns what was truncated, one line for each; empty for a record that fits.
    """
    sizes: dict[str, int] = {}
    for max_bytes in _TEXT_LIMITS:
        if message.ByteSize() <= MAX_RECORD_BYTES:
            break
        _truncate(message, max_bytes, "", sizes)
    why = "bytes do not fit into one message; truncated"
    notes = [f"{path[:_MAX_PATH_CHARACTERS]}: {size} {why}" for path, size in sizes.items()]
    omitted = [f"{len(notes) - _MAX_NOTES} more texts and values were truncated"] if len(notes) > _MAX_NOTES else []
    return [*notes[:_MAX_NOTES], *omitted, *_truncate_lists(message)]


def _truncate(node: Any, max_bytes: int, path: str, sizes: dict[str, int]) -> None:  # noqa: ANN401 - a message, map or list
    for child_path, key, child in _children(node, path):
        if isinstance(child, str):
            data = child.encode()
            if len(data) > max_bytes:
                sizes.setdefault(child_path, len(data))
                text = f"{data[:max_bytes].decode(errors='ignore')}… (truncated)"
                setattr(node, key, text) if isinstance(node, Message) else node.__setitem__(key, text)
        elif isinstance(child, Value) and child.WhichOneof("kind") != "string_value":
            if (size := child.ByteSize()) > max_bytes:
                sizes.setdefault(child_path, size)
                child.string_value = "(too large to be shown)"
        elif not isinstance(child, bool | int | float | bytes):
            is_deprecated = isinstance(node, Message) and node.DESCRIPTOR.fields_by_name[key].GetOptions().deprecated
            _truncate(
                child, max_bytes, child_path, {} if is_deprecated else sizes
            )  # another field has the same, and is noted


def _truncate_lists(message: Message) -> Iterator[str]:
    """Halves the longest list or object of a record for as long as it is too large."""
    while message.ByteSize() > MAX_RECORD_BYTES:
        fields = [(field.name, getattr(value, "fields", value)) for field, value in message.ListFields()]
        lists = [
            (len(entry), name, entry)
            for name, entry in fields
            if hasattr(entry, "__len__") and not isinstance(entry, str)
        ]
        size, name, longest = max(lists, key=lambda entry: entry[0], default=(0, "", []))
        if size == 0:
            return
        if hasattr(longest, "keys"):
            for key in sorted(longest)[size // 2 :]:
                del longest[key]
        else:
            del longest[size // 2 :]
        yield f"{name}: {size} entries do not fit into one message; the first {size // 2} are shown"


def _children(node: Any, path: str) -> list[tuple[str, Any, Any]]:  # noqa: ANN401 - a message, map or list
    """The paths, keys and values of the contents of a message, a map or a list."""
    if isinstance(node, Message):
        named = [(field.name, value) for field, value in node.ListFields()]
        return [
            (path if name in _VALUE_FIELDS else f"{path}.{name}".removeprefix("."), name, one) for name, one in named
        ]
    if hasattr(node, "keys"):
        return [(f"{path}.{key}", key, node[key]) for key in node]
    return [(f"{path}[{index}]", index, one) for index, one in enumerate(node)]
