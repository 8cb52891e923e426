"""A small instruct-style model: chat templates with and without generation markers, an end of turn that is not the
end of text, conversations of several turns with a system prompt, a policy. Nothing here imports torch until it runs."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import Any

from tiny_models import World, tiny_llama, word_tokenizer, write_jsonl

WORDS = ["red", "green", "blue", "grey", "small", "large", "box", "ball", "book", "lamp"]
BANNED = "grey"

# Both render `<|im_start|> role text <|im_end|> \n`; a word tokenizer needs the spaces.
PLAIN = (
    "{% for m in messages %}<|im_start|> {{ m['role'] }} {{ m['content'] }} <|im_end|> after {% endfor %}"
    "{% if add_generation_prompt %}<|im_start|> assistant {% endif %}"
)
MARKED = (
    "{% for m in messages %}<|im_start|> {{ m['role'] }} "
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] }} <|im_end|>{% endgeneration %}"
    "{% else %}{{ m['content'] }} <|im_end|>{% endif %} after {% endfor %}"
    "{% if add_generation_prompt %}<|im_start|> assistant {% endif %}"
)
TEMPLATES = {"plain": PLAIN, "marked": MARKED}

POLICY = f"""\
edition 1
attribute grey: flag {{ backend = regex(re"\\b{BANNED}\\b") }}
calm: P(grey) <= 0.2
"""


def chat_tokenizer(template: str, *, special: bool = True, **options: Any) -> Any:
    """Words, with <|im_end|> as the end of a turn and <end> as the end of a text."""
    made = word_tokenizer(
        ["<|im_start|>", "<|im_end|>", "<s>", "system", "user", "assistant", "tool", "after", *WORDS],
        **options,
    )
    from tokenizers import AddedToken

    marks = [AddedToken(mark, special=special, normalized=False) for mark in ("<|im_start|>", "<|im_end|>")]
    made.add_tokens(marks, special_tokens=special)
    made.chat_template = template
    return made


def conversations(seed: int, count: int) -> list[dict[str, Any]]:
    """Rows of two rounds after a system prompt; half of the answers have the banned word."""
    generator = random.Random(seed)
    rows = []
    for _ in range(count):
        asked = [" ".join(generator.sample(WORDS[4:], 2)) for _ in range(2)]
        said = [" ".join(generator.choices(WORDS[:4], k=generator.randint(1, 2))) for _ in range(2)]
        turns = itertools.chain.from_iterable(
            ({"role": "user", "content": a}, {"role": "assistant", "content": b})
            for a, b in zip(asked, said, strict=True)
        )
        rows.append({"messages": [{"role": "system", "content": "small"}, *turns]})
    return rows


def write_chat_world(root: Path, template: str) -> World:
    """Write model, tokenizer, conversations, prompts without an answer, and policy below ``root``."""
    tokenizer = chat_tokenizer(template)
    tokenizer.save_pretrained(root / "model")
    tiny_llama(len(tokenizer)).save_pretrained(root / "model")
    (root / "calm.policy").write_text(POLICY)
    open_ = [{"messages": row["messages"][:-1]} for row in conversations(1, 60)]
    return World(
        root, root / "model", root / "calm.policy", write_jsonl(root / "train.jsonl", conversations(0, 60)),
        write_jsonl(root / "prompts.jsonl", open_),
    )  # fmt: skip
