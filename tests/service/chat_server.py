"""A chat API on a real local HTTP server, which answers from a script and keeps what it was asked."""

import contextlib
import json
import socket
import struct
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_HANG_UP_AT_ONCE = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request: headers by their names in lower case, and the JSON of its body (None: it is none)."""

    number: int
    method: str
    path: str
    headers: Mapping[str, str]
    body: Any

    @property
    def prompt(self) -> str:
        """The content of its last message."""
        return str(self.body["messages"][-1]["content"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What is sent back: a body as JSON, or text and bytes as they are.

    `delay_seconds` pass first, and `pause_seconds` between pieces of `piece_bytes`, also of the headers. `cut_after`
    cuts the connection off after so many bytes of the body; where it is 0, not even a status is sent.
    """

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_seconds: float = 0.0
    piece_bytes: int = 1 << 30
    pause_seconds: float = 0.0
    cut_after: int | None = None

    @property
    def content(self) -> bytes:
        if isinstance(self.body, bytes):
            return self.body
        return self.body.encode() if isinstance(self.body, str) else json.dumps(self.body).encode()


Script = Sequence[Answer] | Callable[[Asked], Answer]
"""The answers in the order of the requests, or a function that finds each; it is called by many threads at once."""

NO_ANSWER_LEFT = Answer(status=400, body={"error": {"message": "no answer left in the script", "code": "script_over"}})


def said(text: str | None, **changes: Any) -> Answer:
    """A completion of this text; `changes` replace fields of its body."""
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1700000000,
        "model": "test-model",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6},
    }
    return Answer(body=body | changes)


def refused(status: int, message: str = "refused", *, code: str | None = None, **headers: str) -> Answer:
    """An error as the API tells it; `retry_after="1"` is the header Retry-After."""
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status=status, body={"error": {"message": message, "type": None, "code": code}}, headers=told)


class ChatServer:
    """Serves `POST <base_url>/chat/completions` on a free loopback port from when it is made until it is closed."""

    def __init__(self, script: Script) -> None:
        self.asked: list[Asked] = []
        self._script = script
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._server = _Server(self._serve, self._closing)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), name="chat", daemon=True)
        self._thread.start()

    def __enter__(self) -> "ChatServer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def port(self) -> int:
        """Where it listens on 127.0.0.1."""
        return int(self._server.server_address[1])

    @property
    def base_url(self) -> str:
        """What OPENAI_BASE_URL is to be."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def connections(self) -> int:
        """How many connections were ever made."""
        return self._server.connections

    def close(self) -> None:
        """Cut everybody off, and end."""
        self._closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.hang_up()
        self._server.server_close()

    def _serve(self, method: str, path: str, headers: Mapping[str, str], content: bytes) -> Answer:
        body = None
        with contextlib.suppress(ValueError):
            body = json.loads(content)
        with self._lock:
            asked = Asked(number=len(self.asked), method=method, path=path, headers=headers, body=body)
            self.asked.append(asked)
        if not asked.path.endswith("/chat/completions"):
            return refused(404, f"no such path: {asked.path}")
        if callable(self._script):
            return self._script(asked)
        return self._script[asked.number] if asked.number < len(self._script) else NO_ANSWER_LEFT


Serve = Callable[[str, str, Mapping[str, str], bytes], Answer]


class _Server(ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = False

    def __init__(self, serve: Serve, closing: threading.Event) -> None:
        self.serve = serve
        self.closing = closing
        self.connections = 0
        self._open: set[Any] = set()
        super().__init__(("127.0.0.1", 0), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections += 1
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, _request: Any, _client_address: Any) -> None:
        """Whoever hangs up on us does as they like."""

    def hang_up(self) -> None:
        """End every connection; its thread sees that."""
        for request in tuple(self._open):
            with contextlib.suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    server: _Server

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = self.server.serve(self.command, self.path, headers, content)
        if answer.delay_seconds:
            self.server.closing.wait(answer.delay_seconds)
        self._send(answer)

    def _write(self, content: bytes, answer: Answer) -> None:
        for begin in range(0, max(len(content), 1), answer.piece_bytes):
            self.wfile.write(content[begin : begin + answer.piece_bytes])
            self.wfile.flush()
            if answer.pause_seconds and self.server.closing.wait(answer.pause_seconds):
                return

    def log_message(self, *_: Any) -> None:
        """Nobody reads it."""

    def _send(self, answer: Answer) -> None:
        content = answer.content
        if answer.cut_after != 0:
            self.send_response(answer.status)
            for name, value in {"content-type": "application/json", **answer.headers}.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(content)))
            self._headers_buffer: list[bytes]
            head, self._headers_buffer = b"".join((*self._headers_buffer, b"\r\n")), []
            self._write(head, answer)
            self._write(content[: answer.cut_after], answer)
        if answer.cut_after is not None:
            self.close_connection = True
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _HANG_UP_AT_ONCE)
