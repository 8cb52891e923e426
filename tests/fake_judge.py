"""A server that keeps the OpenAI protocol as far as it is used, and can be made slow, busy, broken or silent."""

from __future__ import annotations

import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Fault = Callable[["FakeServer", str, int, BaseHTTPRequestHandler], bool]
"""``fault(server, text, attempt, handler)``: answer in place of the server and return True, or leave it alone."""


def length_score(text: str) -> float:
    """What the judge makes of a response: a tenth for every character, at most 1."""
    return min(1.0, len(text) / 10)


@dataclass
class FakeServer:
    """``answer`` gives the text of a reply to the last message or prompt; ``asked`` counts requests by response."""

    answer: Callable[[str, dict[str, Any]], str]
    fault: Fault = lambda server, text, attempt, handler: False
    key: str | None = None
    url: str = ""
    models: list[str] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    asked: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    times: list[float] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    lock: Any = field(default_factory=threading.Lock)
    stop: Any = field(default_factory=threading.Event)


def judged(content: str) -> tuple[str, str]:
    """Prompt and response between the marks of a judge's message."""
    found = re.fullmatch(
        r"\[PROMPT (\w{32})\]\n(.*)\n\[END OF PROMPT \1\]\n\[RESPONSE \1\]\n(.*)\n\[END OF RESPONSE \1\]\n[^\n]*",
        content, re.DOTALL,
    )  # fmt: skip
    assert found is not None, content
    return found[2], found[3]


def as_judge(text: str, body: dict[str, Any]) -> str:
    """The object that the schema of a request asks for."""
    (name,) = body["response_format"]["json_schema"]["schema"]["required"]
    score = length_score(text)
    return json.dumps({name: score > 0.5 if name == "answer" else score})


@contextmanager
def serving(server: FakeServer) -> Iterator[FakeServer]:
    """The server on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            send(self, 200, {"object": "list", "data": [{"id": name} for name in server.models]})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path == "/v1/chat/completions":
                content = body["messages"][-1]["content"]
                text = judged(content)[1] if content.startswith("[PROMPT ") else content
            elif self.path == "/v1/completions":
                text = body["prompt"]
            else:
                return send(self, 404, {"error": {"message": "no such path"}})
            with server.lock:
                server.bodies.append(body)
                server.asked[text] += 1
                server.times.append(time.monotonic())
                attempt = server.asked[text]
                server.at_once += 1
                server.most_at_once = max(server.most_at_once, server.at_once)
            inside = [True]

            def leave() -> None:
                """Before the reply is sent: a client that has it may ask again at once."""
                with server.lock:
                    server.at_once -= inside.pop() if inside else 0

            try:
                if server.key is not None and self.headers.get("Authorization") != f"Bearer {server.key}":
                    given = self.headers.get("Authorization")
                    return send(self, 401, {"error": {"message": f"Incorrect API key: {given}"}})
                if server.fault(server, text, attempt, self):
                    return None
                server.answered[text] += 1
                reply = server.answer(text, body)
                chat = self.path.endswith("chat/completions")
                said = {"message": {"role": "assistant", "content": reply}} if chat else {"text": reply}
                leave()
                return send(self, 200, {"choices": [{"index": 0, "finish_reason": "stop", **said}]})
            finally:
                leave()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    http_server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http_server.daemon_threads = True
    http_server.block_on_close = False
    thread = threading.Thread(target=http_server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    server.url = f"http://127.0.0.1:{http_server.server_address[1]}"
    try:
        yield server
    finally:
        server.stop.set()
        http_server.shutdown()
        http_server.server_close()
        thread.join()


def send(handler: BaseHTTPRequestHandler, status: int, content: Any, **headers: str) -> None:
    """A reply with a length."""
    data = (content if isinstance(content, str) else json.dumps(content)).encode()
    try:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)
    except OSError:  # the client gave up
        pass


def reply_of(content: str) -> dict[str, Any]:
    """A chat completion that says so."""
    return {"choices": [{"index": 0, "finish_reason": "stop", "message": {"content": content}}]}


# ------------------------------------------------------------ faults
def slow(server: FakeServer, text: str, attempt: int, handler: BaseHTTPRequestHandler) -> bool:
    """Late, but right."""
    time.sleep(0.02)
    return False


def hangs(server: FakeServer, text: str, attempt: int, handler: BaseHTTPRequestHandler) -> bool:
    """Nothing is ever said."""
    server.stop.wait(60)
    return True


def drips(server: FakeServer, text: str, attempt: int, handler: BaseHTTPRequestHandler) -> bool:
    """A byte now and then, so that no single read runs out of time."""
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    try:
        while not server.stop.wait(0.02):
            handler.wfile.write(b" ")
            handler.wfile.flush()
    except OSError:
        pass
    return True


def drops(server: FakeServer, text: str, attempt: int, handler: BaseHTTPRequestHandler) -> bool:
    """The connection is closed without a word."""
    handler.close_connection = True
    handler.connection.close()
    return True


def truncates(server: FakeServer, text: str, attempt: int, handler: BaseHTTPRequestHandler) -> bool:
    """Half of a reply, and the connection is closed."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [{"mess')
    handler.wfile.flush()
    return drops(server, text, attempt, handler)


def limits(server: FakeServer, text: str, attempt: int, handler: BaseHTTPRequestHandler) -> bool:
    """Too many requests."""
    send(handler, 429, {"error": {"message": "slow down"}}, Retry_After="0.02")
    return True


def fails(server: FakeServer, text: str, attempt: int, handler: BaseHTTPRequestHandler) -> bool:
    """An error of the server."""
    send(handler, 500, {"error": {"message": "out of memory"}})
    return True


def says(content: Any) -> Fault:
    """A reply of status 200 that is not the one asked for."""

    def fault(server: FakeServer, text: str, attempt: int, handler: BaseHTTPRequestHandler) -> bool:
        send(handler, 200, content)
        return True

    return fault


def first(times: int, fault: Fault) -> Fault:
    """The fault at the first requests for each text, then none."""
    return lambda server, text, attempt, handler: attempt <= times and fault(server, text, attempt, handler)


def on(texts: set[str], fault: Fault) -> Fault:
    """The fault at some texts alone."""
    return lambda server, text, attempt, handler: text in texts and fault(server, text, attempt, handler)
