"""What a request over HTTP may take: of time, of memory, of places."""

from __future__ import annotations

MAX_CONNECTIONS = 512
"""Connections at once. Beyond them, who has been silent for longest makes room for who comes."""
MAX_HEAD_BYTES = 16 * 1024
"""The longest request line with its headers, as long as gRPC's metadata may be."""
MAX_JSON_BYTES = 1024 * 1024
"""The longest body that is not a file."""
MAX_FIELD_BYTES = 64 * 1024
"""The longest field of a form beside its file; more than KFP takes of any text."""
MAX_PARTS = 16
"""Parts of a form."""
FRAMING_BYTES = 128 * 1024
"""What may surround a file of the largest size in its form."""
MAX_LISTED = 20_000
"""The most things that one answer lists: the Flask adapter's answers have no pages."""

HEAD_SECONDS = 10.0
"""How long a request line and its headers may take to arrive, TLS included."""
SILENCE_SECONDS = 20.0
"""How long the next bytes of a body may take to arrive."""
BODY_SECONDS = 30.0
"""How long the whole of a body may take that is not a file; a file may take what its upload may."""
WORK_SECONDS = 60.0
"""How long all calls for one request may take together, where it is no upload."""
ANSWER_SECONDS = 30.0
"""How long an answer may take to leave."""
LINGER_SECONDS = 10.0
"""How long the rest of a body is still read after it was answered: who sends it reads the answer only then."""
