"""The page as a child of `kfadapter dev`: `python -m kfadapter_console SOCKET TARGET MAX_UPLOAD_BYTES`.

SOCKET is the number of an inherited listening socket. The page is served until the parent closes standard input, or
dies. Neither adapter nor page requires a token: both are on loopback.
"""

from __future__ import annotations

import os
import socket
import sys
from contextlib import closing

from kfadapter_console.app import make_app
from kfadapter_console.process import serving
from kfadapter_grpc.client import Client
from kfadapter_grpc.client.credentials import TOKEN_FILE_VARIABLE, TOKEN_VARIABLE


def main() -> None:
    number, target, max_upload_bytes = sys.argv[1:]
    for name in (TOKEN_VARIABLE, TOKEN_FILE_VARIABLE):
        os.environ.pop(name, None)
    listener, client = socket.socket(fileno=int(number)), Client(target, tls=False)
    app = make_app(client, hosts=[], max_upload_bytes=int(max_upload_bytes))
    with serving(app, listener), closing(client):
        sys.stdin.buffer.read()


if __name__ == "__main__":
    main()
