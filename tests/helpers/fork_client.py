"""A command for a server of `fork_server.py` that listens: it runs in this folder, with these variables and streams."""

import json
import os
import socket
import sys

closed = [number for number, stream in enumerate((sys.stdin, sys.stdout, sys.stderr)) if stream is None]
for _ in closed:
    os.open(os.devnull, os.O_RDWR)  # the lowest numbers that are free
with socket.socket(socket.AF_UNIX) as line:
    line.connect(sys.argv[1])
    socket.send_fds(line, [b"."], [0, 1, 2])
    # Bytes, as text that any locale has: the server may have another one.
    arguments, folder = [os.fsencode(one).decode("latin-1") for one in sys.argv[2:]], os.getcwdb().decode("latin-1")
    variables = {name.decode("latin-1"): value.decode("latin-1") for name, value in os.environb.items()}
    request = {"arguments": arguments, "folder": folder, "environment": variables, "closed": closed}
    line.sendall(json.dumps(request).encode() + b"\n")
    answers = line.makefile()
    answers.readline()  # the id of its process
    line.sendall(b".")
    sys.exit(int((answers.readline() or "255").split()[0]))
