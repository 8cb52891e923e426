"""Broken policies without end: input ``index`` of seed ``seed`` is the same text on every machine."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from functools import cache
from importlib import resources
from pathlib import Path

import constraintlang
from constraintlang.catalogue import PAGES
from constraintlang.syntax_errors import GENERAL_EXAMPLES, MISTAKES

HERE = Path(__file__).parent
TOKEN = re.compile(r'"(?:\\.|[^"\\\n])*"|[A-Za-z_]\w*|\d+(?:\.\d+)?%?|[<>=!]=|#[^\n]*|\s+|.', re.DOTALL)
_WORDS = r"""
a toxicity words sentences slur cap 0 1 0.5 2% 99999999999999999999 1e5 1e-9 0.1e101 < <= > >= == != = ( ) [ ] { }
, : . @ | + - * / and or not implies until weak_until release before globally eventually next weak_next over last true
false for per under weight priority confidence because require prefer preserve always edition import as let attribute
in domain tag group test given on mean P median min max quantile cvar base inf perplexity accuracy score real int count
flag lower_is_better backend levels tags source classifier lexicon regex length python logprob sequence tokens turns
readability pii secrets json judge nli
pass fail holds violated tolerance temperature samples "x" re"a|b" re"(" "\u0041" "\q" # & && || ! ~ ; => =< <> % ** ^
\ ' ` $ ? if then unless between percent // /* -> ``` &lt; 1_000 0,1
"""
WORDS = tuple(_WORDS.split())
SIGNS = "\u202e\u2066\u200b\ufeff\u00a0\u00ad\u2028\u0085\x00\x0b\x0c\r\x1b\t\x7fäтß\u0301\U0001f600\ud800≤“”’−×٣²ªⅧ中"
KINDS = (
    ("<", "<=", ">", ">=", "==", "!="),
    ("+", "-", "*", "/"),
    ("and", "or", "implies", "before", "until"),
    ("toxicity", "words", "sentences", "characters", "reference_perplexity"),
    ("require", "prefer", "preserve", "always", "not"),
    ("mean", "P", "median", "quantile"),
    ("perplexity", "accuracy", "base"),
    ("score", "real", "int", "count", "flag"),
    ("temperature", "samples", "top_p", "max_tokens", "tolerance", "top_k"),
    ("lower_is_better", "higher_is_better"),
)
NUMBERS = (
    "0",
    "1",
    "0.5",
    "0.1",
    "2",
    "3",
    "7",
    "20",
    "100",
    "5%",
    "100%",
    "0.001",
    "1e-3",
    "2.50",
    "12.5%",
    "0.0",
    "1e2",
)
BRACKETS = (
    ("(", ")"),
    ("[", "]"),
    ("{", "}"),
    ("not ", ""),
    ("-", ""),
    ("mean(", ")"),
    ("group g {\n", "\n}"),
)


@cache
def good_policies() -> tuple[str, ...]:
    """Policies that check: the examples, the shipped ones, those of the pages and of the reference."""
    texts = [path.read_text("utf-8") for path in sorted((HERE / "golden" / "policies").glob("*.policy"))]
    shipped = resources.files("constraintlang_policies")
    texts += [
        path.read_text("utf-8")
        for path in sorted(Path(str(shipped)).rglob("*.policy"), key=lambda path: path.as_posix())
    ]
    reference = Path(constraintlang.__file__).with_name("REFERENCE.md").read_text("utf-8")
    texts += re.findall(r"```policy[^\n]*\n(.*?)```", reference, re.DOTALL)
    return (*texts, *(page.repaired for page in PAGES.values()))


@cache
def bad_policies() -> tuple[str, ...]:
    """Policies that are wrong in a known way: those of the pages, of the tables of mistakes, of the collection."""
    texts = [page.failing for page in PAGES.values()]
    texts += [text for mistake in MISTAKES for text in mistake.examples]
    collection = sorted((HERE / "constraintlang" / "malformed").glob("*.policy"))
    texts += [path.read_bytes().decode("utf-8", "replace")[:2_000] for path in collection]
    return (*texts, *GENERAL_EXAMPLES)


def _some_policy(dice: random.Random) -> str:
    return dice.choice(good_policies() if dice.random() < 0.75 else bad_policies())


def fuzz_input(seed: int, index: int) -> bytes | str:
    """One input: most are mutated policies as text, some are bytes as a file could hold them."""
    dice = random.Random(f"{seed}:{index}")
    kind = dice.random()
    if kind < 0.02:
        return dice.randbytes(dice.randrange(200))
    text = _excerpt(dice)
    # A third of the inputs are changed in ways that often leave them right, to reach the later stages.
    mutations = GENTLE if dice.random() < 0.35 else MUTATIONS
    for _ in range(dice.choice((1, 1, 1, 2, 2, 3, 5, 8))):
        text = dice.choice(mutations)(text, dice)[:20_000]
    if kind < 0.12:
        return _damaged(text.encode("utf-8", "surrogatepass"), dice)
    return text


def _excerpt(dice: random.Random) -> str:
    """A policy of the corpus, a few lines of a long one, or two of them in one file."""
    text = _some_policy(dice)
    lines = text.split("\n")
    if len(lines) > 4 and dice.random() < 0.98:
        first = dice.randrange(len(lines))
        text = "\n".join(lines[first : first + dice.randint(1, 4)])
    if dice.random() < 0.1:
        text += "\n" + _some_policy(dice)[:300]
    return text


def _damaged(content: bytes, dice: random.Random) -> bytes:
    kind = dice.randrange(5)
    at = dice.randrange(len(content) + 1)
    if kind == 0:
        return content[:at]
    if kind == 1:
        return content[:at] + dice.randbytes(dice.randint(1, 4)) + content[at + dice.randint(0, 3) :]
    if kind == 2:
        return b"\xef\xbb\xbf" + content
    if kind == 3:
        return content.decode("utf-8", "replace").encode(dice.choice(("utf-16", "utf-32", "utf-16-le")))
    flipped = bytearray(content)
    for _ in range(dice.randint(1, 4) if flipped else 0):
        flipped[dice.randrange(len(flipped))] ^= 1 << dice.randrange(8)
    return bytes(flipped)


# ---------------------------------------------------------------- one mutation each
Mutation = Callable[[str, random.Random], str]


def _tokens(text: str) -> list[str]:
    return TOKEN.findall(text) or [""]


def _delete(text: str, dice: random.Random) -> str:
    tokens = _tokens(text)
    at = dice.randrange(len(tokens))
    del tokens[at : at + dice.choice((1, 1, 2, 5))]
    return "".join(tokens)


def _replace(text: str, dice: random.Random) -> str:
    tokens = _tokens(text)
    tokens[dice.randrange(len(tokens))] = dice.choice(WORDS)
    return "".join(tokens)


def _insert(text: str, dice: random.Random) -> str:
    tokens = _tokens(text)
    word = dice.choice(WORDS)
    tokens.insert(dice.randrange(len(tokens) + 1), dice.choice((word, f" {word} ", word + "\n")))
    return "".join(tokens)


def _swap(text: str, dice: random.Random) -> str:
    tokens = _tokens(text)
    i, j = dice.randrange(len(tokens)), dice.randrange(len(tokens))
    tokens[i], tokens[j] = tokens[j], tokens[i]
    return "".join(tokens)


def _own_word(text: str, dice: random.Random) -> str:
    """A word of the file in the place of another one, so that names are known but mean something else."""
    tokens = _tokens(text)
    words = [i for i, token in enumerate(tokens) if token[0:1].isalnum()]
    if words:
        tokens[dice.choice(words)] = tokens[dice.choice(words)]
    return "".join(tokens)


def _same_kind(text: str, dice: random.Random) -> str:
    """A word in the place of one that stands where it could."""
    tokens = _tokens(text)
    places = [(i, kind) for i, token in enumerate(tokens) for kind in KINDS if token in kind]
    if places:
        at, kind = dice.choice(places)
        tokens[at] = dice.choice(kind)
    return "".join(tokens)


def _plain_number(text: str, dice: random.Random) -> str:
    tokens = _tokens(text)
    places = [i for i, token in enumerate(tokens) if token[0:1].isdigit()]
    if places:
        tokens[dice.choice(places)] = dice.choice(NUMBERS)
    return "".join(tokens)


def _wrap(text: str, dice: random.Random) -> str:
    """A condition in brackets, negated, or joined with another one."""
    conditions = list(re.finditer(r"[A-Za-z_]\w* *(?:<=?|>=?|[!=]=) *[\d.]+%?", text))
    if not conditions:
        return text
    place, other = dice.choice(conditions), dice.choice(conditions)[0]
    shape = dice.choice(
        ("({})", "not ({})", "({} and {o})", "{} or {o}", "{o} implies {}", "((({})))", "not not ({})")
    )
    return text[: place.start()] + shape.format(place[0], o=other) + text[place.end() :]


def _splice(text: str, dice: random.Random) -> str:
    tokens, others = _tokens(text), _tokens(_some_policy(dice))
    first = dice.randrange(len(others))
    at = dice.randrange(len(tokens) + 1)
    return "".join(tokens[:at] + others[first : first + dice.randint(1, 12)] + tokens[at:])


def _repeat(text: str, dice: random.Random) -> str:
    tokens = _tokens(text)
    first = dice.randrange(len(tokens))
    part = tokens[first : first + dice.randint(1, 6)]
    times = dice.choice((1, 1, 2, 2, 3, 3, 20, 250))
    return "".join(tokens[:first] + part * times + tokens[first:])


def _nest(text: str, dice: random.Random) -> str:
    tokens = _tokens(text)
    first = dice.randrange(len(tokens))
    last = min(len(tokens), first + dice.randint(1, 9))
    opening, closing = dice.choice(BRACKETS)
    depth = dice.choice((1, 1, 1, 2, 3, 40, 199, 201))
    shut = dice.choice((depth, depth, depth, depth - 1, 0))
    return "".join([*tokens[:first], opening * depth, *tokens[first:last], closing * shut, *tokens[last:]])


def _sign(text: str, dice: random.Random) -> str:
    at = dice.randrange(len(text) + 1)
    return text[:at] + dice.choice(SIGNS) * dice.choice((1, 1, 1, 3)) + text[at + dice.choice((0, 0, 1)) :]


def _number(text: str, dice: random.Random) -> str:
    found = list(re.finditer(r"\d+(?:\.\d+)?%?", text))
    if not found:
        return text
    place = dice.choice(found)
    number = dice.choice(
        (
            "0",
            "00",
            "-1",
            "1",
            "1e300",
            "0." + "0" * 99 + "1",
            "9" * 100,
            "9" * 101,
            "1e-99",
            "1/3",
            "1/0",
            "100%",
            "1.",
        )
    )
    return text[: place.start()] + number + text[place.end() :]


def _lines(text: str, dice: random.Random) -> str:
    lines = text.split("\n")
    i, j = dice.randrange(len(lines)), dice.randrange(len(lines))
    kind = dice.randrange(5)
    if kind == 0:
        lines[i], lines[j] = lines[j], lines[i]
    elif kind == 1:
        lines.insert(j, lines[i])
    elif kind == 2:
        lines[i] += " " + lines.pop(j) if i < j else ""
    elif kind == 3:
        lines[i] = "# " + lines[i]
    else:
        return dice.choice(("\r\n", "\r", "\n\n", "\n  ")).join(lines)
    return "\n".join(lines)


def _characters(text: str, dice: random.Random) -> str:
    at = dice.randrange(len(text) + 1)
    return text[:at] + text[at + dice.randint(1, 3) :]


MUTATIONS: tuple[Mutation, ...] = (
    _delete, _replace, _insert, _swap, _own_word, _own_word, _splice, _repeat, _nest, _sign, _number, _lines,
    _characters, _same_kind, _plain_number, _wrap,
)  # fmt: skip
"""All mutations; each gets a text and a source of chance."""
GENTLE: tuple[Mutation, ...] = (_same_kind, _same_kind, _plain_number, _wrap, _own_word)
"""Mutations that often leave a policy right."""
