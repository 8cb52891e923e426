"""Conversations as token ids: the chat template's own tokens, the assistant's turns, and the tokens that end a turn.

What is trained are all assistant turns, each with its end token, as in TRL's ``assistant_only_loss``; the last of them
is the completion that a policy speaks of. Where a template has ``{% generation %}`` markers they say what the assistant
wrote, else the difference between the template's renderings with and without a turn does. Only rows are rendered: ids
that a model generated stay as they are.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from constraintlang_runtime.columns import CHAT_OPTIONS
from constraintlang_runtime.errors import DataError

Messages = list[dict[str, Any]]
Span = tuple[int, int]
HELP = (
    "use a template that is made for training: its generation prompt begins the assistant turn, it leaves earlier "
    "turns as they are, or it has `generation` markers (TRL has such templates of the usual models); thinking may be "
    "switched off by a column `chat_template_kwargs`; or give each row one assistant turn"
)


def end_tokens(tokenizer: Any, model: Any = None) -> list[int]:
    """All ids that end a completion: the tokenizer's, the chat template's, those of the model's generation settings."""
    configured = None if model is None else getattr(model.generation_config, "eos_token_id", None)
    listed = configured if isinstance(configured, list | tuple) else [configured]
    found = [tokenizer.eos_token_id, end_of_turn(tokenizer), *listed]
    return list(dict.fromkeys(int(token) for token in found if token is not None))


def end_of_turn(tokenizer: Any) -> int | None:
    """The token with which the chat template ends an assistant turn; None without a template, or when text does.

    It is found by rendering two answers: what follows them is what their ids have in common at the end. Of several
    tokens of the template's own it is the last that also stands there when another turn follows, because some
    templates end the whole conversation with a token more.
    """
    if not getattr(tokenizer, "chat_template", None):
        return None
    from jinja2 import TemplateError

    try:
        last, inside = _after_answers(tokenizer), _after_answers(tokenizer, {"role": "user", "content": "a"})
    except (TemplateError, TypeError):  # a template for other turns than these; its rows say so themselves
        return None
    # an answer outside the vocabulary is all unknown tokens
    named = ({*tokenizer.added_tokens_decoder} | {*tokenizer.all_special_ids}) - {tokenizer.unk_token_id}
    last, inside = ([*itertools.dropwhile(lambda t: t not in named, part)] for part in (last, inside))
    both = zip(last, inside, strict=False)
    run = [t for t, _ in itertools.takewhile(lambda pair: pair[0] == pair[1] and pair[0] in named, both)]
    return run[-1] if run else next(iter(last), None)


def _after_answers(tokenizer: Any, *following: dict[str, Any]) -> list[int]:
    """The ids that follow an answer, whatever it says."""
    one, other = (
        _ids(
            tokenizer,
            [{"role": "user", "content": "a"}, {"role": "assistant", "content": answer}, *following],
        )
        for answer in ("b", "c d")
    )
    common = 0
    while common < min(len(one), len(other)) and one[-1 - common] == other[-1 - common]:
        common += 1
    return one[len(one) - common :]


def has_generation_markers(template: Any) -> bool:
    """Whether a template says itself what the assistant wrote."""
    text = template.get("default", "") if isinstance(template, Mapping) else template
    return re.search(r"\{%-?\s*generation\s*-?%\}", str(text)) is not None


def _ids(tokenizer: Any, messages: Messages, **options: Any) -> list[int]:
    return list(tokenizer.apply_chat_template(messages, return_dict=False, **options))


@dataclass
class ChatEncoder:
    """Turns conversations of one tokenizer into ids; remembers what it found out about the template."""

    tokenizer: Any
    ends: list[int] = field(init=False)
    marked: bool = field(init=False)
    read: dict[str, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ends = end_tokens(self.tokenizer)
        self.marked = has_generation_markers(self.tokenizer.chat_template or "")

    def encode(
        self, row: Mapping[str, Any], place: str, *, need_completion: bool, context: int = 0
    ) -> tuple[list[int], list[int], tuple[Span, ...]]:
        """Prompt ids, completion ids, and the spans of their concatenation that the LM loss covers (none of a prompt).

        The prompt is everything before the last assistant turn, with the generation prompt. ``context`` is the number
        of messages at the beginning whose assistant turns are not trained. A conversation that does not end with the
        assistant is a prompt alone.
        Raises: DataError naming the row.
        """
        from jinja2 import TemplateError

        messages, options = self._checked(row, place)
        try:
            self._require_read(messages, options, place)
            if messages[-1]["role"] != "assistant":
                if need_completion:
                    raise DataError(
                        f"{place}: its last message is not from the assistant",
                        help="training rows end with one; conversations to be answered go to --prompts",
                    )
                return _ids(self.tokenizer, messages, add_generation_prompt=True, **options), [], ()
            return self._trained(messages, options, place, context)
        except (TemplateError, TypeError) as error:
            raise DataError(
                f"{place}: the chat template refuses the conversation: {error}",
                help="order the turns as the model's template wants them",
            ) from error

    # ------------------------------------------------------------ checks
    def _checked(self, row: Mapping[str, Any], place: str) -> tuple[Messages, dict[str, Any]]:
        if not self.tokenizer.chat_template:
            raise DataError(
                f"{place} is a conversation, but the tokenizer has no chat template",
                help="use prompt/completion texts, or a tokenizer with a chat template",
            )
        messages = row["messages"]
        if (
            not isinstance(messages, list)
            or not messages
            or not all(isinstance(m, Mapping) and isinstance(m.get("role"), str) for m in messages)
        ):
            raise DataError(
                f"{place}: its `messages` are {str(messages)[:60]!r}, expected a list of turns",
                help='write [{"role": "user", "content": "..."}, ...]',
            )
        options = chat_options(row, place)
        options |= options.pop("chat_template_kwargs", {})
        for message in messages:
            said = message.get("content")
            if message["role"] == "assistant" and isinstance(said, str):
                inside = [text for text in self.tokenizer.convert_ids_to_tokens(self.ends) if text in said]
                if inside:
                    raise DataError(
                        f"{place}: a turn of the assistant has the end token `{inside[0]}` in its text",
                        help="take it out of the text; the template puts it at the end",
                    )
        # tables fill the keys that only other turns have with nothing
        kept = [
            {key: value for key, value in m.items() if value is not None or key == "content"}
            for m in messages
        ]
        return kept, options

    def _require_read(self, messages: Messages, options: dict[str, Any], place: str) -> None:
        """Raise DataError for what the template leaves out without a word: roles it does not know, tools."""
        for position, message in enumerate(messages):
            role, content = message["role"], message.get("content")
            if role not in ("user", "assistant") and role not in self.read and isinstance(content, str):
                changed = [*messages]
                changed[position] = {**message, "content": content + " x"}
                self.read[role] = _ids(self.tokenizer, messages, **options) != _ids(
                    self.tokenizer, changed, **options
                )
            if not self.read.get(role, True):
                raise DataError(
                    f"{place}: the chat template leaves out messages of the role `{role}`",
                    help="drop them, or use a tokenizer whose template has that role",
                )
        if "tools" in options:
            if "`tools`" not in self.read:
                without = {key: value for key, value in options.items() if key != "tools"}
                self.read["`tools`"] = _ids(self.tokenizer, messages, **options) != _ids(
                    self.tokenizer, messages, **without
                )
            if not self.read["`tools`"]:
                raise DataError(
                    f"{place}: the chat template leaves out the column `tools`",
                    help="drop the column, or use a tokenizer whose template lists tools",
                )

    # ------------------------------------------------------------ the assistant's turns
    def _trained(
        self, messages: Messages, options: dict[str, Any], place: str, context: int
    ) -> tuple[list[int], list[int], tuple[Span, ...]]:
        whole = _ids(self.tokenizer, messages, **options)
        prompt = self._prefix(whole, messages, len(messages) - 1, options, place)
        first = self._prefix(whole, messages, context, options, place) if context else 0
        spans = [
            self._ended(whole, start, end, place)
            for start, end in (
                self._marked_spans(whole, messages, options, place)
                if self.marked
                else self._turn_spans(whole, messages, options, place, context, prompt)
            )
            if start >= first
        ]
        if not spans or spans[-1][1] <= prompt:
            if messages[-1].get("content"):
                raise DataError(
                    f"{place}: the `generation` markers of the chat template do not cover its last turn",
                    help="put them around what the assistant says",
                )
            spans.append(self._ended(whole, prompt, prompt, place))  # nothing said: its end alone
        end = spans[-1][1]
        return whole[:prompt], whole[prompt:end], tuple(spans)

    def _prefix(
        self, whole: Sequence[int], messages: Messages, count: int, options: dict[str, Any], place: str
    ) -> int:
        """Length of the prompt that the first ``count`` messages make, which must begin the whole conversation."""
        prompt = _ids(self.tokenizer, messages[:count], add_generation_prompt=True, **options)
        if list(whole[: len(prompt)]) != prompt:
            raise DataError(
                f"{place}: the chat template does not render the first {count} messages as a prefix of the whole "
                "conversation",
                help=HELP,
            )
        return len(prompt)

    def _marked_spans(
        self, whole: Sequence[int], messages: Messages, options: dict[str, Any], place: str
    ) -> list[Span]:
        """Runs of ones in transformers' mask of the assistant's tokens."""
        found = self.tokenizer.apply_chat_template(
            messages, return_dict=True, return_assistant_tokens_mask=True, **options
        )
        mask = [*found["assistant_masks"], 0]
        if list(found["input_ids"]) != list(whole):
            raise DataError(f"{place}: the chat template renders the conversation differently each time")
        spans, start = [], None
        for position, covered in enumerate(mask):
            if covered and start is None:
                start = position
            elif not covered and start is not None:
                spans.append((start, position))
                start = None
        return spans

    def _turn_spans(
        self,
        whole: Sequence[int],
        messages: Messages,
        options: dict[str, Any],
        place: str,
        context: int,
        prompt: int,
    ) -> list[Span]:
        """From the end of each assistant turn's prompt to the end of the rendering with the turn."""
        spans = []
        for position, message in enumerate(messages[:-1]):
            if message["role"] == "assistant" and position >= context:
                start = self._prefix(whole, messages, position, options, place)
                end = start
                for ours, theirs in zip(
                    whole[start:],
                    _ids(self.tokenizer, messages[: position + 1], **options)[start:],
                    strict=False,
                ):
                    if ours != theirs:  # what ends a conversation may be another token than what ends a turn
                        break
                    end += 1
                if end == start:
                    raise DataError(
                        f"{place}: the chat template renders message {position} differently when others follow",
                        help=HELP,
                    )
                spans.append((start, end))
        return [*spans, (prompt, len(whole))]

    def _ended(self, whole: Sequence[int], start: int, end: int, place: str) -> Span:
        """A turn found at [start, end) up to and including its end token; what a template puts after it is cut.

        Markers may leave the end token out, and renderings hold a line break after it: both would teach the model
        never to stop where sampling does.
        """
        for position in range(start, min(end + 3, len(whole))):
            if whole[position] in self.ends:
                return start, position + 1
        # a call of a tool, or a turn that others follow, may have an end of its own
        named = {*self.tokenizer.added_tokens_decoder} - {self.tokenizer.unk_token_id}
        last = next((i for i in range(end - 1, start - 1, -1) if whole[i] in named), None)
        if last is not None and not self.tokenizer.decode(whole[last + 1 : end]).strip():
            return start, last + 1
        if end < len(whole) and whole[end] in named:
            return start, end + 1
        raise DataError(
            f"{place}: the chat template ends an assistant turn without an end token, so that a model trained on "
            "it would not learn to stop",
            help="use a template that ends turns with a special token or the tokenizer's end-of-sequence token",
        )


def chat_options(row: Mapping[str, Any], place: str) -> dict[str, Any]:
    """The columns of a row that a chat template reads (``CHAT_OPTIONS``), as values or out of their JSON text.

    Raises: DataError naming the row.
    """
    found: dict[str, Any] = {}
    kinds: tuple[type, ...] = (list, dict)
    for name, kind in zip(CHAT_OPTIONS, kinds, strict=True):
        value = row.get(name)
        if not value:
            continue
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except json.JSONDecodeError:
                value = str(value)
        if not isinstance(value, kind):
            raise DataError(
                f"{place}: its `{name}` is {str(value)[:60]!r}, expected a {kind.__name__} (or its JSON text)",
                help="as `apply_chat_template` of transformers takes it",
            )
        found[name] = value
    return found
