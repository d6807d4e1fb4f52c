"""Limits of a request over HTTP: time, memory, concurrency."""

MAX_CONNECTIONS = 512
"""Open connections. Beyond them, the connection that has been silent for longest is closed for a new one."""
MAX_REQUESTS = 96
"""Requests that call the adapter at once."""
SHARE = 4
"""The reciprocal of the share of connections and requests that is reserved for other addresses."""
MAX_HEAD_BYTES = 16 * 1024
"""The longest request line with its headers, as long as gRPC's metadata may be."""
MAX_JSON_BYTES = 1024 * 1024
"""The longest body that is not a file."""
MAX_FIELD_BYTES = 64 * 1024
"""The longest field of a form beside its file; more than KFP accepts of any text."""
MAX_PARTS = 16
"""Parts of a form."""
FRAMING_BYTES = 128 * 1024
"""What may surround a file of the largest size in its form."""
MAX_ITEMS = 20_000
"""The most entries of one response: the Flask adapter's responses have no pages."""

HEAD_SECONDS = 10.0
"""How long a request line and its headers may take to arrive, TLS handshake included."""
IDLE_SECONDS = 20.0
"""How long the next bytes of a body may take to arrive."""
BODY_SECONDS = 30.0
"""How long a whole body may take that is not a file; a file may take what its upload may."""
CALL_SECONDS = 60.0
"""How long all calls for one request may take together, uploads aside."""
RESPONSE_SECONDS = 30.0
"""How long a response may take to be sent."""
LINGER_SECONDS = 10.0
"""How long the rest of a body is read after the response: many clients read the response only then."""
