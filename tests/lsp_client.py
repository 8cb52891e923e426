"""A small client of the Language Server Protocol: it starts the server and speaks JSON-RPC over its pipes."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
FLOORS = ("constraintlang", "compiler", "runtime", "policies")
TIMEOUT_SECONDS = 30


class Refusal(Exception):
    """The server answered with an error."""


class LspClient:
    """One session with one server process."""

    def __init__(self) -> None:
        path = os.pathsep.join(str(ROOT / floor) for floor in FLOORS)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "constraintc.main", "lsp", "--stdio"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": path},
        )
        self.numbers = itertools.count(1)
        self.answers: dict[int, dict[str, Any]] = {}
        self.notifications: queue.Queue[dict[str, Any]] = queue.Queue()
        self.arrived = threading.Condition()
        self.closed = False
        self.errors: list[bytes] = []
        self.threads = [threading.Thread(target=act, daemon=True) for act in (self._read, self._drain)]
        for thread in self.threads:
            thread.start()

    def __enter__(self) -> LspClient:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.wait(TIMEOUT_SECONDS)
        for thread in self.threads:
            thread.join(TIMEOUT_SECONDS)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert stream is not None
            with contextlib.suppress(BrokenPipeError):
                stream.close()

    # ------------------------------------------------------------ messages
    def request(self, method: str, params: Any = None) -> Any:
        """The result of a request; raises Refusal with the server's message when it refuses."""
        number = next(self.numbers)
        self._send({"id": number, "method": method, "params": params})
        with self.arrived:
            self.arrived.wait_for(lambda: number in self.answers or self.closed, TIMEOUT_SECONDS)
            if number not in self.answers:
                raise AssertionError(f"no answer to {method}: {b''.join(self.errors).decode()}")
            answer = self.answers.pop(number)
        if "error" in answer:
            raise Refusal(answer["error"]["message"])
        return answer["result"]

    def notify(self, method: str, params: Any = None) -> None:
        """Tell the server something."""
        self._send({"method": method, "params": params})

    def notification(self, method: str) -> Any:
        """What the server tells next under a method's name."""
        while True:
            message = self.notifications.get(timeout=TIMEOUT_SECONDS)
            if message["method"] == method:
                return message["params"]

    def _send(self, message: dict[str, Any]) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        assert self.process.stdin is not None
        self.process.stdin.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        self.process.stdin.flush()

    def _read(self) -> None:
        stream = self.process.stdout
        assert stream is not None
        while True:
            size = 0
            while (line := stream.readline().strip()) != b"":
                name, _, value = line.partition(b": ")
                size = int(value) if name == b"Content-Length" else size
            if size == 0:
                break
            message = json.loads(stream.read(size))
            with self.arrived:
                if "method" in message:
                    self.notifications.put(message)
                else:
                    self.answers[message["id"]] = message
                self.arrived.notify_all()
        with self.arrived:
            self.closed = True
            self.arrived.notify_all()

    def _drain(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.errors.append(line)

    # ------------------------------------------------------------ what editors do
    def initialize(self, encodings: tuple[str, ...] = ("utf-16",)) -> Any:
        """Begin a session."""
        completion = {"completionItem": {"snippetSupport": True}}
        capabilities = {
            "general": {"positionEncodings": list(encodings)},
            "textDocument": {"completion": completion},
        }
        params = {"processId": os.getpid(), "rootUri": None, "capabilities": capabilities}
        result = self.request("initialize", params)
        self.notify("initialized", {})
        return result

    def open(self, uri: str, text: str) -> list[dict[str, Any]]:
        """Open a file; the findings that come."""
        item = {"uri": uri, "languageId": "policy", "version": 1, "text": text}
        self.notify("textDocument/didOpen", {"textDocument": item})
        return self.findings(uri, 1)

    def change(self, uri: str, version: int, text: str) -> None:
        """Give an open file another text."""
        document = {"uri": uri, "version": version}
        self.notify("textDocument/didChange", {"textDocument": document, "contentChanges": [{"text": text}]})

    def findings(self, uri: str, version: int | None) -> list[dict[str, Any]]:
        """The findings of a version of a file."""
        while True:
            params = self.notification("textDocument/publishDiagnostics")
            if params["uri"] == uri and params.get("version") == version:
                return params["diagnostics"]

    def end(self) -> int:
        """Leave as the protocol asks; the exit code of the server."""
        assert self.request("shutdown") is None
        self.notify("exit")
        return self.process.wait(TIMEOUT_SECONDS)
