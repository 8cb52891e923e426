"""A served model behind the OpenAI protocol: one chat or plain completion, and what its refusals mean."""

from __future__ import annotations

import http.client
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from constraintlang_runtime.errors import ConfigError, ScorerError, ScorerUnavailable
from constraintlang_runtime.http_json import BUSY, exchange, first_line, parsed, require_address, shown

CHAT, PLAIN, MODELS = "/v1/chat/completions", "/v1/completions", "/v1/models"
WRONG_ADDRESS = (401, 403, 404, 405)  # what no text can change


@dataclass(frozen=True)
class Endpoint:
    """Where a model is served, its name there, and how to call it; the key is the first of ``keys`` that is set.

    ``setting`` is the flag that names the address, ``timeout`` the seconds that a reply may take in all, ``rate`` the
    requests in a second, ``at_once`` those under way together.
    """

    url: str
    model: str
    setting: str
    keys: tuple[str, ...]
    timeout: float = 60.0
    rate: float | None = None
    at_once: int = 8

    def __post_init__(self) -> None:
        require_address(self.url, self.setting, self.keys[0])
        check_calls(self.setting, self.rate, self.timeout)
        object.__setattr__(self, "url", self.url.rstrip("/").removesuffix("/v1"))

    def ask(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The JSON object that the model's server replies.

        Raises: ScorerUnavailable for what may pass (no connection, time-out, 408, 429, 5xx, no JSON) and for what the
        server refuses in this one request; ScorerError for a wrong address or key.
        """
        key = next((os.environ[name] for name in self.keys if os.environ.get(name)), None)
        try:
            reply = exchange(self.url, path, {"model": self.model, **body}, timeout=self.timeout, key=key)
        except (OSError, http.client.HTTPException) as error:
            raise ScorerUnavailable(
                f"{shown(self.url)} does not answer: {str(error) or type(error).__name__}"
            ) from None
        if reply.status < 300:
            found = parsed(reply.text)
            if not isinstance(found, dict):
                raise ScorerUnavailable(f"{shown(self.url)} replies no JSON object: {reply.text[:80]!r}")
            return found
        said = first_line(reply.text)
        if key:
            said = said.replace(key, "***")
        cause = f"{shown(self.url)}{path} replies status {reply.status}: {said}"
        if reply.status in BUSY:
            raise ScorerUnavailable(cause, retry_after=reply.retry_after)
        if reply.status in WRONG_ADDRESS:
            help = (
                f"put the server's key into the variable {self.keys[0]}"
                if reply.status in (401, 403)
                else f"see whether --{self.setting} is the address of the server and `{self.model}` a model there"
            )
            raise ScorerError(cause, help=help)
        raise ScorerUnavailable(cause, again=False)


def only_model(url: str, setting: str, keys: tuple[str, ...], timeout: float) -> str:
    """The model that a server has; ConfigError when it has none or several, or does not say."""
    endpoint = Endpoint(url, "", setting, keys, timeout)
    key = next((os.environ[name] for name in keys if os.environ.get(name)), None)
    try:
        reply = exchange(endpoint.url, MODELS, None, timeout=timeout, key=key)
    except (OSError, http.client.HTTPException) as error:
        raise ConfigError(
            f"{shown(url)} does not answer: {str(error) or type(error).__name__}",
            help="check that the server runs there",
            parameter=setting,
        ) from None
    found = parsed(reply.text) if reply.status < 300 else None
    listed = found.get("data") if isinstance(found, dict) else None
    ones = listed if isinstance(listed, list) else []
    names = [one.get("id") for one in ones if isinstance(one, dict)]
    if len(names) == 1 and isinstance(names[0], str):
        return names[0]
    known = (
        f"it has {', '.join(map(str, names[:20]))}" if names else f"it does not say (status {reply.status})"
    )
    raise ConfigError(
        f"it is missing, and the server names not one model: {known}",
        help="name it",
        parameter=f"{setting}_model",
    )


def check_calls(setting: str, rate: float | None, timeout: float) -> None:
    """Raise ConfigError for a rate or a time-out that no call can keep."""
    if rate is not None and not 0 < rate < math.inf:
        raise ConfigError(f"{setting}: got a rate of {rate}, expected requests in a second above 0")
    if not 0 < timeout < math.inf:
        raise ConfigError(f"{setting}: got a time-out of {timeout}, expected a positive number of seconds")


def message_of(reply: Mapping[str, Any], *, may_be_null: bool = False) -> str:
    """The text of the one choice of a chat completion; with ``may_be_null`` a content of null is the empty text.

    Raises: ScorerUnavailable when there is none.
    """
    choice = _choice(reply)
    message = choice.get("message")
    content = message.get("content") if isinstance(message, dict) else None
    if content is None and may_be_null and isinstance(message, dict):
        return ""
    if not isinstance(content, str):
        raise ScorerUnavailable(f"the reply has no text: {str(choice)[:120]!r}")
    return content


def text_of(reply: Mapping[str, Any]) -> str:
    """The text of the one choice of a plain completion; ScorerUnavailable when there is none."""
    choice = _choice(reply)
    text = choice.get("text")
    if not isinstance(text, str):
        raise ScorerUnavailable(f"the reply has no text: {str(choice)[:120]!r}")
    return text


def finish_of(reply: Mapping[str, Any]) -> str:
    """Why the one choice ended."""
    return str(_choice(reply).get("finish_reason"))


def _choice(reply: Mapping[str, Any]) -> dict[str, Any]:
    choices = reply.get("choices")
    if not isinstance(choices, Sequence) or len(choices) != 1 or not isinstance(choices[0], dict):
        raise ScorerUnavailable(f"the reply has not one choice: {str(reply)[:120]!r}")
    return choices[0]
