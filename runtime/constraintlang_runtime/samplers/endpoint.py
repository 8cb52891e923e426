"""Completions of prompts from a served model, kept in a file as they come, so that a run can go on after a kill."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from constraintlang_compiler.artifact import write_whole
from constraintlang_runtime.chat import chat_options
from constraintlang_runtime.columns import WITHHELD, Row
from constraintlang_runtime.errors import (
    ConfigError,
    DataError,
    RuntimeFailure,
    ScorerError,
    ScorerUnavailable,
)
from constraintlang_runtime.integrations.texts import as_text
from constraintlang_runtime.sampling_law import SamplingLaw, before_stop
from constraintlang_runtime.scorers.calling import Caller
from constraintlang_runtime.scorers.endpoint import CHAT, PLAIN, Endpoint, finish_of, message_of, text_of
from constraintlang_runtime.scorers.protocol import Terms
from constraintlang_runtime.small_writes import writing_small

logger = logging.getLogger(__name__)
KEYS = ("CONSTRAINTLANG_ENDPOINT_KEY", "OPENAI_API_KEY")
REQUEST = "endpoint_request"  # column of the completions file: which request a row answers
LEFT = "endpoint_left"  # the same of a row whose request did not say what ``NEUTRAL`` says
FILE = "completions.jsonl"
USABLE_ENDS = ("stop", "length")  # of a reply that is whole or was cut where it should be
WITHHELD_ENDS = ("content_filter", "tool_calls", "function_call")  # of an answer that is none of words
# What servers fill in from the model's generation_config where a request leaves it out; not all servers take it.
NEUTRAL = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
Progress = Callable[[str, int, int], None]


class ServerFailure(RuntimeFailure):
    """A served model has not answered every prompt; what it answered is kept."""


@dataclass(frozen=True)
class Asked:
    """One request: its number, the row of the prompt, and a seed of its own."""

    number: int
    row: Row
    seed: int


@dataclass(frozen=True)
class Withheld:
    """A reply that the server ended in another way than ``USABLE_ENDS``: what it would have said is not known."""

    ended: str


class EndpointSampler:
    """Completes prompts at an OpenAI-compatible server, several at once.

    A prompt of messages goes to ``/v1/chat/completions``; a text goes to ``/v1/completions`` as it is, or with ``chat``
    as what a user says. Temperature, ``top_p``, length and a seed for each request are sent, and ``NEUTRAL`` where the
    server takes it (``takes_neutral``); a server that ignores the seed draws as it likes. What the server makes of its
    chat template, and what it truncates, is the server's.
    """

    takes_neutral = True
    left_to_the_server = False  # of a completion in the file, whichever run asked for it
    withheld: Mapping[str, int] = {}  # replies in the file that the server withheld, by how it ended them

    def __init__(self, endpoint: Endpoint, law: SamplingLaw, *, chat: bool = False) -> None:
        self._endpoint = endpoint
        self._law = law
        self._chat = chat

    def complete(
        self, asked: Sequence[Asked], path: Path, *, seed: int = 0, progress: Progress | None = None
    ) -> None:
        """Append a row for every request that ``path`` does not answer yet.

        A reply that the server withheld is an answer, too: asking again until it says something would judge the model
        on what the server lets through. Its row has no completion.
        Raises: ServerFailure when requests stay without an answer; the others are kept, and the same call goes on.
        """
        answered = read_answered(path)
        self.left_to_the_server = any(answered.values())
        open_requests = [one for one in asked if one.number not in answered]
        done = len(asked) - len(open_requests)
        failures: list[ScorerUnavailable] = []
        terms = Terms(
            batch_size=1, at_once=self._endpoint.at_once, per_second=self._endpoint.rate, is_bounded=True
        )
        with _appending(path) as append:

            def ended(index: int, result: str | Withheld | ScorerUnavailable) -> None:
                nonlocal done
                if isinstance(result, ScorerUnavailable):
                    failures.append(result)
                else:
                    own = {REQUEST: open_requests[index].number}
                    if not self.takes_neutral:
                        own[LEFT] = self.left_to_the_server = True
                    append({**completed(open_requests[index].row, result), **own})
                    done += 1
                    if progress is not None:
                        progress("sampling", done, len(asked))

            try:
                Caller[str | Withheld](terms, seed=seed).run(
                    [partial(self._ask, one) for one in open_requests], ended
                )
            except ScorerError as error:
                raise ServerFailure(error.message, help=error.help, parameter="endpoint") from None
        if failures:
            raise ServerFailure(
                f"{len(failures):,} of {len(asked):,} requests have no completion: {failures[-1].message}",
                parameter="endpoint",
                help="a verdict on the others would not be about your prompts; the same command with --output goes on "
                "with those that are missing",
            )
        self.withheld = _in_order(path)
        if self.withheld:
            ends = ", ".join(f"{count:,} by {ended!r}" for ended, count in self.withheld.items())
            logger.warning(
                "the server withheld %s of %s completions (ended %s): they are missing in the verdict, which counts "
                "against the policy, and are not asked for again", f"{sum(self.withheld.values()):,}",
                f"{len(asked):,}", ends,
            )  # fmt: skip

    def _ask(self, one: Asked) -> str | Withheld:
        body: dict[str, Any] = {
            "max_tokens": self._law.max_new_tokens, "temperature": float(self._law.temperature),
            "top_p": float(self._law.top_p), "n": 1, "stream": False, "seed": one.seed % 2**31,
            "presence_penalty": 0.0, "frequency_penalty": 0.0,
        }  # fmt: skip
        if self._law.stop:
            body["stop"] = list(self._law.stop)
        turns = prompt_turns(one.row, chat=self._chat)
        if turns is None:
            reply = self._reply(PLAIN, {**body, "prompt": str(one.row["prompt"])})
        else:
            reply = self._reply(CHAT, {**body, "messages": turns, **chat_options(one.row, "a row")})
        if (ended := finish_of(reply)) in WITHHELD_ENDS:
            return Withheld(ended)
        if ended not in USABLE_ENDS:
            raise ScorerUnavailable(
                f"a reply ended by {ended!r}, which is none of {', '.join((*USABLE_ENDS, *WITHHELD_ENDS))}",
                again=False,
            )
        # A chat server may say null of a reply that ended at once.
        text = text_of(reply) if turns is None else message_of(reply, may_be_null=True)
        return before_stop(text, self._law.stop)

    def _reply(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """With ``NEUTRAL``, and without it from the first request on that the server takes only so."""
        if self.takes_neutral:
            try:
                return self._endpoint.ask(path, {**body, **NEUTRAL})
            except ScorerUnavailable as error:
                if error.again:
                    raise
        reply = self._endpoint.ask(path, body)
        if self.takes_neutral:
            self.takes_neutral = False
            logger.warning(
                "the server refuses %s: what the model's generation_config says of them applies",
                ", ".join(NEUTRAL),
            )
        return reply


def prompt_turns(row: Row, *, chat: bool) -> list[dict[str, Any]] | None:
    """The turns before the answer that is asked for; None for a prompt of plain text.

    Raises: DataError for a row without a prompt.
    """
    if row.get("messages") is not None:
        turns = [dict(turn) for turn in row["messages"]]
        while turns and turns[-1].get("role") == "assistant":
            turns.pop()
        if turns:
            return turns
    prompt = row.get("prompt")
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}] if chat else None
    if prompt:
        return [dict(turn) for turn in prompt]
    raise DataError(
        f"a row has no prompt for a served model; it has {', '.join(row)}",
        help="give `prompt` or `messages`",
        parameter="prompts",
    )


def completed(row: Row, completion: str | Withheld) -> Row:
    """The row with its answer in place of any that it had; of one that was withheld, its prompt and how it ended."""
    if isinstance(completion, Withheld):
        kept = {key: value for key, value in row.items() if key != "completion"}
        turns = None if row.get("messages") is None else prompt_turns(row, chat=False)
        asked = {"prompt": as_text(row["prompt"])} if turns is None else {"messages": turns}
        return {**kept, **asked, WITHHELD: completion.ended}
    if row.get("messages") is not None and (turns := prompt_turns(row, chat=False)) is not None:
        return {**row, "messages": [*turns, {"role": "assistant", "content": completion}]}
    return {**row, "prompt": as_text(row["prompt"]), "completion": completion}


def fingerprint(content: Any) -> str:
    """A digest of what a completions file follows from."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def require_own(folder: Path, digest: str) -> Path:
    """The completions file of a folder, begun anew or of the same run; ConfigError for another run's."""
    path, own = folder / FILE, folder / "completions.sha256"
    if path.exists() and (not own.exists() or own.read_text().strip() != digest):
        raise ConfigError(
            f"`{path}` holds completions of another run: other prompts, model or sampling",
            help="name another folder, or remove the file",
            parameter="output",
        )
    with writing_small(f"completions to `{folder}`", help="free space there, or name another folder"):
        folder.mkdir(parents=True, exist_ok=True)
        own.write_text(digest + "\n")
    return path


def read_answered(path: Path) -> dict[int, bool]:
    """Requests that a file answers, and whether they left ``NEUTRAL`` to the server.

    A last line that was cut by a kill is removed.
    """
    if not path.exists():
        return {}
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        with path.open("r+b") as stream:
            stream.truncate(len(whole))
    try:
        rows = [json.loads(line) for line in whole.splitlines()]
        return {int(row[REQUEST]): bool(row.get(LEFT)) for row in rows}
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"`{path}` is damaged: {error}", help="remove it and start again") from error


@contextlib.contextmanager
def _appending(path: Path) -> Iterator[Callable[[Row], None]]:
    """Rows written at once, each as one line."""
    with path.open("a", encoding="ascii") as stream:

        def append(row: Row) -> None:
            with writing_small(
                f"completions to `{path}`", help="free space there; --output goes on from there"
            ):
                stream.write(json.dumps(row) + "\n")
                stream.flush()

        yield append


def _in_order(path: Path) -> Counter[str]:
    """Put rows into the order of their requests, whatever that of the answers was; how withheld ones ended."""
    lines = sorted(path.read_bytes().splitlines(), key=lambda line: int(json.loads(line)[REQUEST]))
    with writing_small(f"completions to `{path}`", help="free space there, or name another folder"):
        write_whole(path, b"".join(line + b"\n" for line in lines))
    return Counter(ended for line in lines if (ended := json.loads(line).get(WITHHELD)) is not None)
