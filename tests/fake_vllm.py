"""A server that keeps vLLM's protocol as far as it is used, sampling from a real tiny model and real adapters.

It is strict where vLLM is not: an unknown field, a prompt of text or a missing key is an error, so that the tests see
what is sent.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMPLETION = {
    "model": str, "prompt": list, "n": int, "stream": bool, "seed": int, "max_tokens": int, "temperature": float,
    "top_p": float, "top_k": int, "min_p": float, "repetition_penalty": float, "presence_penalty": float,
    "frequency_penalty": float, "stop_token_ids": list, "ignore_eos": bool, "return_token_ids": bool, "logprobs": int,
}  # fmt: skip
Reply = tuple[int, Any]


@dataclass
class FakeVllm:
    """What the server has and saw; ``meddle`` may change a reply before it is sent, or fail it."""

    base: Path
    key: str | None = None
    meddle: Callable[[str, Reply], Reply] = lambda path, reply: reply
    url: str = ""
    adapters: dict[str, Any] = field(default_factory=dict)
    loads: list[str] = field(default_factory=list)
    unloads: list[str] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    sent: list[tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=list)
    lock: Any = field(default_factory=threading.Lock)

    def answer(self, path: str, body: Any) -> Reply:
        """The reply to one request."""
        name = body.get("lora_name", "")
        if path == "/v1/load_lora_adapter":
            if name in self.adapters or not (Path(body["lora_path"]) / "adapter_config.json").exists():
                return 400, {"error": {"message": f"cannot load {name}"}}
            self.adapters[name] = self._model(body["lora_path"])
            self.loads.append(name)
            return 200, f"Success: LoRA adapter '{name}' added successfully."
        if path == "/v1/unload_lora_adapter":
            if self.adapters.pop(name, None) is None:
                return 404, {"error": {"message": f"no adapter {name}"}}
            self.unloads.append(name)
            return 200, f"Success: LoRA adapter '{name}' removed successfully."
        if path == "/v1/models":
            return 200, {"object": "list", "data": [{"id": name} for name in ("base", *self.adapters)]}
        if path != "/v1/completions":
            return 404, {"detail": "Not Found"}
        wrong = [k for k, v in body.items() if type(v) is not COMPLETION.get(k)]
        if wrong or not all(type(token) is int for token in body["prompt"]):
            return 400, {"error": {"message": f"not understood: {wrong or body['prompt']}"}}
        if body["model"] not in self.adapters:
            return 404, {"error": {"message": f"The model `{body['model']}` does not exist."}}
        self.requests.append(body)
        return 200, {"choices": [self._completed(self.adapters[body["model"]], body)]}

    def _model(self, adapter: str) -> Any:
        from peft import PeftModel
        from transformers import AutoModelForCausalLM

        return PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(self.base), adapter).eval()

    def _completed(self, model: Any, body: dict[str, Any]) -> dict[str, Any]:
        """Plain ancestral sampling, one forward pass a token."""
        import torch

        assert (body["top_p"], body["top_k"]) == (1.0, 0), "the fake does not truncate"
        ids, found, logs, reason = list(body["prompt"]), [], [], "length"
        generator = torch.Generator().manual_seed(body["seed"])
        for _ in range(body["max_tokens"]):
            with torch.no_grad():
                law = torch.log_softmax(model(input_ids=torch.tensor([ids])).logits[0, -1].float(), -1)
            tempered = torch.softmax(law / body["temperature"], -1) if body["temperature"] else law.exp()
            token = int(
                torch.multinomial(tempered, 1, generator=generator) if body["temperature"] else law.argmax()
            )
            ids.append(token)
            found.append(token)
            logs.append(float(law[token]))
            if token in body["stop_token_ids"]:
                reason = "stop"
                break
        self.sent.append((tuple(body["prompt"]), tuple(found)))
        return {
            "index": 0, "text": "never read", "finish_reason": reason, "stop_reason": None,
            "token_ids": found if body.get("return_token_ids") else None, "prompt_token_ids": body["prompt"],
            "logprobs": {"token_logprobs": logs} if "logprobs" in body else None,
        }  # fmt: skip


@contextmanager
def serving(fake: FakeVllm) -> Iterator[FakeVllm]:
    """The fake server on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._reply({})

        def do_POST(self) -> None:
            self._reply(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def _reply(self, body: dict[str, Any]) -> None:
            if fake.key is not None and self.headers.get("Authorization") != f"Bearer {fake.key}":
                status, reply = 401, {"error": "Unauthorized"}
            else:
                with fake.lock:  # one thread of torch at a time
                    status, reply = fake.answer(self.path, body)
                status, reply = fake.meddle(self.path, (status, reply))
            content = (reply if isinstance(reply, str) else json.dumps(reply)).encode()
            try:
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
            except OSError:  # the client gave up
                pass

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def slow(seconds: float) -> Callable[[str, Reply], Reply]:
    """A server that answers late."""

    def meddle(path: str, reply: Reply) -> Reply:
        time.sleep(seconds)
        return reply

    return meddle
