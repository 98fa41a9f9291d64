"""The hostile app: an HTTP server that makes the attempts it is sent.

`GET /` says who it is; `POST /run` takes a JSON list of command lines and answers with their
results, one JSON line each; `POST /exec` runs one command line, detached from the request.
"""

import json
import os
import socket
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import batch

SECRET = Path("secret.txt")
# Unlike any neighbour's, which need not have a uid of its own.
ABSTRACT = f"hostile-{Path('/proc/self/ns/net').stat().st_ino}"


def own_address() -> str | None:
    """The IPv4 address that packets to elsewhere carry."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as endpoint:
        try:
            endpoint.connect(("198.51.100.1", 9))
        except OSError:
            return None
        return str(endpoint.getsockname()[0])


def gateway_address() -> str | None:
    """The default gateway, from the namespace's own routes."""
    for line in Path("/proc/net/route").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1] == "00000000":
            return socket.inet_ntoa(int(fields[2], 16).to_bytes(4, "little"))
    return None


def whoami() -> dict[str, Any]:
    """What the tests can't know from outside."""
    return {
        "address": own_address(),
        "gateway": gateway_address(),
        "uid": os.getuid(),
        "pid": os.getpid(),
        "abstract": ABSTRACT,
        "secret": SECRET.read_text() if SECRET.exists() else None,
    }


class Handler(BaseHTTPRequestHandler):
    """Answers the tests."""

    def do_GET(self) -> None:
        """Who am I."""
        self.answer(json.dumps(whoami()).encode())

    def do_POST(self) -> None:
        """Run what is asked for."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/run":
            self.answer("\n".join(json.dumps(r) for r in batch.results(body)).encode())
        elif self.path == "/exec":
            subprocess.Popen(body)
            self.answer(b"{}")
        else:
            self.send_error(404)

    def answer(self, body: bytes) -> None:
        """A complete 200."""
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Nothing: the log belongs to the attempts."""


def greet(endpoint: socket.socket) -> None:
    """Greet whoever connects: neighbours attempt to."""
    while True:
        connection, _ = endpoint.accept()
        with connection:
            connection.sendall(b"reached a neighbour\n")


def listen_elsewhere() -> None:
    """A second port and an abstract unix socket, for neighbours to attempt."""
    tcp = socket.create_server(("0.0.0.0", 4000))
    abstract = socket.socket(socket.AF_UNIX)
    abstract.bind(f"\0{ABSTRACT}")
    abstract.listen()
    for endpoint in (tcp, abstract):
        threading.Thread(target=greet, args=(endpoint,), daemon=True).start()


def main() -> None:
    """Serve until stopped."""
    if SECRET.exists():
        Path("/tmp/secret.txt").write_text(SECRET.read_text())
    listen_elsewhere()
    server = ThreadingHTTPServer(("0.0.0.0", int(os.environ["PORT"])), Handler)
    server.daemon_threads = True
    server.request_queue_size = 128
    server.serve_forever()


if __name__ == "__main__":
    main()
