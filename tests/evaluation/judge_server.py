"""A real HTTP server on loopback that plays an OpenAI-compatible endpoint, well or badly."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

USAGE = {"prompt_tokens": 300, "completion_tokens": 40}


@dataclass
class Act:
    """What the server does with one request."""

    say: str | None = "Fine. Rating: [[2]]"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    usage: Any = field(default_factory=lambda: dict(USAGE))
    wait: float = 0.0
    drop: bool = False
    drip: bool = False


Play = Callable[[int, dict[str, Any]], Act]


@dataclass
class Seen:
    """The requests that came in, with their headers and times."""

    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    url: str = ""

    @property
    def prompts(self) -> list[str]:
        return [body["messages"][0]["content"] for body in self.bodies]


@contextmanager
def serving(play: Play) -> Iterator[Seen]:
    """The server, for the length of the block; `play(number, body)` decides each answer."""
    seen, lock = Seen(), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                number = len(seen.bodies)
                seen.bodies.append(body)
                seen.keys.append(self.headers["Authorization"])
                seen.headers.append({name.lower(): value for name, value in self.headers.items()})
                seen.times.append(time.monotonic())
            act = play(number, body)
            time.sleep(act.wait)
            if act.drop:
                # A reset instead of an orderly end.
                now = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, now)
                self.connection.close()
                return
            self._answer(act)

        def _answer(self, act: Act) -> None:
            message = {"message": {"role": "assistant", "content": act.say}}
            whole = {"choices": [message], "usage": act.usage}
            raw = json.dumps(whole).encode() if act.raw is None else act.raw
            try:
                self.send_response(act.status)
                for name, value in {"Content-Length": str(len(raw)), **act.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                for start in range(0, len(raw), 1 if act.drip else len(raw)):
                    self.wfile.write(raw[start : start + (1 if act.drip else len(raw))])
                    time.sleep(0.02 if act.drip else 0)
            except OSError:
                pass  # the client has gone

        do_GET = do_POST  # noqa: N815

        def log_message(self, *arguments: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *arguments: object) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    seen.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
