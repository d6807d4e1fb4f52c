"""What is wrong with a set-up, and what to do: from the caller's end (`caller`) and from the server's (`server`).

`server` needs the packages of the extra `server`; the others need none.
"""
