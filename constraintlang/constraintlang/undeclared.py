"""What to declare for a name that nothing declares: what measures a thing of that name, in a type that fits its use."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from constraintlang import vocabulary as v


@dataclass(frozen=True)
class Use:
    """How a name stands in a formula: as a condition, or as a number that is compared with others."""

    as_flag: bool = False
    equality: bool = False
    numbers: tuple[Fraction, ...] = ()


ALSO_CALLED = {
    **dict.fromkeys(["word_count", "wordcount", "num_words", "n_words", "number_of_words"], "words"),
    **dict.fromkeys(["char_count", "character_count", "num_chars", "num_characters", "chars"], "characters"),
    **dict.fromkeys(["sentence_count", "num_sentences", "n_sentences"], "sentences"),
    **dict.fromkeys(["ppl"], "perplexity"),
    **dict.fromkeys(["acc"], "accuracy"),
}
"""Other words for what every policy knows."""

_GRADE, _EMAIL = "readability(flesch_kincaid_grade)", 'pii("EMAIL_ADDRESS")'
MEASURES = {
    "tokens": "length(tokens)",
    **{formula: f"readability({formula})" for formula in v.READABILITY},
    **{share: f"repetition({share})" for share in v.REPETITION},
    **dict.fromkeys(["token_count", "num_tokens", "n_tokens", "max_tokens"], "length(tokens)"),
    **dict.fromkeys(["length", "len", "response_length"], "length(words)"),
    **dict.fromkeys(["grade", "grade_level", "reading_level", "reading_grade", "readability"], _GRADE),
    **dict.fromkeys(["reading_ease"], "readability(flesch_reading_ease)"),
    **dict.fromkeys(["diversity", "distinct"], "repetition(distinct_2)"),
    **dict.fromkeys(["repetition", "repetitions"], "repetition(repeated_3)"),
    **dict.fromkeys(["language", "english", "is_english"], 'language("en")'),
    **dict.fromkeys(["pii", "personal_data", "has_pii", "contains_pii"], 'pii("any")'),
    **dict.fromkeys(["email", "emails", "email_address"], _EMAIL),
    **dict.fromkeys(["secret", "secrets", "api_key", "password"], "secrets()"),
    **dict.fromkeys(["json", "valid_json", "is_json"], "json()"),
    **dict.fromkeys(["profanity", "profanities", "swearing", "swear_words"], "profanity"),
    **dict.fromkeys(["insult", "insults"], "insults"),
    **dict.fromkeys(["refusal", "refusals", "refuses"], "refusals"),
    **dict.fromkeys(["disclaimer", "disclaimers"], "disclaimers"),
    **dict.fromkeys(["slang"], "slang"),
}
"""What measures a thing, by its name: a backend, or a word list of the standard library."""


def declaration(name: str, use: Use) -> str:
    """The declaration of a name that fits its use; dots are left where the author has to write on.

    >>> declaration("tokens", Use(numbers=(Fraction(256),)))
    'attribute tokens: count { backend = length(tokens) }'
    """
    measure = MEASURES.get(name.lower())
    if measure is not None:
        backend = measure if "(" in measure else f'lexicon("std/lists/{measure}.txt")'
        types = v.BACKENDS[backend.partition("(")[0]].types
        end = 100 if "ease" in backend else 20  # of a formula of readability, the only real among these
        type = next((type for type in _fitting(use, end) if type.partition(" ")[0] in types), None)
        if type is not None:
            return f"attribute {name}: {type} {{ backend = {backend} }}"
    type = next(_fitting(use))
    rest = ' { backend = regex(re"...") }' if use.as_flag else ""
    return f"attribute {name}: {type}{rest}"


def _fitting(use: Use, end: int = 10) -> Iterator[str]:
    """Types whose values can lie on both sides of the numbers, the likeliest first; ``end`` is the least of a real."""
    if use.as_flag:
        yield "flag"
        return
    whole = all(number.denominator == 1 for number in use.numbers)
    counted = whole and all(number >= 0 for number in use.numbers)
    share = all(0 <= number <= 1 for number in use.numbers) and not use.equality
    if share and not (whole and use.numbers):
        yield "score in [0, 1]"
    if counted:
        yield "count"
    if share:
        yield "score in [0, 1]"
    if use.equality and whole:
        yield "int"
        return
    while end <= max((abs(number) for number in use.numbers), default=0):
        end *= 10
    yield f"real in [{-end if any(number < 0 for number in use.numbers) else 0}, {end}]"
    yield "count"  # a mean of counts need not be whole
