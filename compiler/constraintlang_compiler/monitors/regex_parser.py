r"""RE2 syntax to trees. RE2 has accepted the pattern before, and says itself what each character class holds.

Not read: ``\C`` (one byte), and what nests deeper than 200. Which of several matches RE2 would report (lazy,
greedy, captures) makes no difference to whether there is one.
"""

from __future__ import annotations

import re

from constraintlang_compiler.monitors.characters import re2_ranges
from constraintlang_compiler.monitors.regex_nodes import (
    Between,
    Characters,
    Choice,
    Condition,
    Regex,
    Repeat,
    Sequence,
)

MAX_NESTING = 200
_REPETITION = re.compile(r"(?:[*+?]|\{(\d+)(,?)(\d*)\})")
_FLAGS = re.compile(r"\(\?([imsU]*)(?:-([imsU]*))?([:)])")
_NAMED = re.compile(r"\(\?P?<\w+>")
_ESCAPE = re.compile(
    r"\\(?:[pP](?:\{[^}]*\}|.)|x\{[0-9A-Fa-f]+\}|x[0-9A-Fa-f]{2}|0[0-7]{0,2}|[1-7][0-7]{1,2}|.)", re.DOTALL
)
_CONDITIONS = {
    "\\A": Condition.BEGIN,
    "\\z": Condition.END,
    "\\b": Condition.WORD_EDGE,
    "\\B": Condition.NO_WORD_EDGE,
}


class RegexError(Exception):
    """RE2 rejects the pattern, or it uses what this reader does not; the message says which."""


def parse_regex(pattern: str) -> Regex:
    """The tree of an RE2 pattern.

    Raises: RegexError.
    """
    import re2

    options = re2.Options()
    options.log_errors = False
    try:
        re2.compile(pattern, options)
    except re2.error as error:
        detail = error.args[0] if error.args else error
        text = detail.decode("utf-8", "replace") if isinstance(detail, bytes) else str(detail)
        raise RegexError(f"RE2 does not accept it: {text}") from error
    parser = _Parser(pattern)
    tree = parser.choice(frozenset(), 0)
    assert parser.position == len(pattern), "RE2 accepts what the reader cannot end"
    return tree


class _Parser:
    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.position = 0

    def choice(self, flags: frozenset[str], depth: int) -> Regex:
        """Up to the closing bracket or the end."""
        if depth > MAX_NESTING:
            raise RegexError(f"it nests more than {MAX_NESTING} deep")
        options: list[Regex] = []
        parts: list[Regex] = []
        while self.position < len(self.pattern) and self.pattern[self.position] != ")":
            if self.pattern[self.position] == "|":
                self.position += 1
                options.append(_sequence(parts))
                parts = []
                continue
            switched = self.flags_to_the_end(flags)
            if switched is not None:
                flags = switched
            else:
                parts.extend(self.atoms(flags, depth))
            # Behind a switch of flags, or an empty quoted text, RE2 repeats what stood before it.
            parts[-1:] = [self.repeated(part) for part in parts[-1:]]
        options.append(_sequence(parts))
        return options[0] if len(options) == 1 else Choice(tuple(options))

    def flags_to_the_end(self, flags: frozenset[str]) -> frozenset[str] | None:
        """The flags in force behind ``(?i)``, if that stands here."""
        found = _FLAGS.match(self.pattern, self.position)
        if found is None or found[3] == ":":
            return None
        self.position = found.end()
        return flags.union(found[1]).difference(found[2] or "")

    def atoms(self, flags: frozenset[str], depth: int) -> list[Regex]:
        """What stands here: one thing, except for the letters of a quoted text, of which the last may repeat."""
        char = self.pattern[self.position]
        if char == "(":
            return [self.group(flags, depth)]
        if char == "[":
            return [_characters(self.taken(self.end_of_class()), flags)]
        if char == "\\":
            return self.escape(flags)
        self.position += 1
        if char == ".":
            return [_characters(".", flags)]
        if char == "^":
            return [Between(Condition.LINE_BEGIN if "m" in flags else Condition.BEGIN)]
        if char == "$":
            return [Between(Condition.LINE_END if "m" in flags else Condition.END)]
        return [_one(char, flags)]

    def group(self, flags: frozenset[str], depth: int) -> Regex:
        switch = _FLAGS.match(self.pattern, self.position)
        named = _NAMED.match(self.pattern, self.position)
        if switch is not None:
            flags = flags.union(switch[1]).difference(switch[2] or "")
            self.position = switch.end()
        else:
            self.position = named.end() if named is not None else self.position + 1
        inner = self.choice(flags, depth + 1)
        self.position += 1  # the closing bracket
        return inner

    def escape(self, flags: frozenset[str]) -> list[Regex]:
        if self.pattern.startswith("\\Q", self.position):
            end = self.pattern.find("\\E", self.position)
            text = self.pattern[self.position + 2 : end if end >= 0 else None]
            self.position = end + 2 if end >= 0 else len(self.pattern)
            return [_one(char, flags) for char in text]
        found = _ESCAPE.match(self.pattern, self.position)
        assert found is not None, "RE2 accepts what the reader does not know"
        text = self.taken(found.end())
        if text == "\\C":
            raise RegexError("`\\C` matches a byte, not a character")
        if text in _CONDITIONS:
            return [Between(_CONDITIONS[text])]
        return [_characters(text, flags)]

    def end_of_class(self) -> int:
        """Where the class that begins here ends."""
        at = self.position + 1
        at += self.pattern.startswith("^", at)
        at += self.pattern.startswith("]", at)  # a first `]` is one of the characters
        while self.pattern[at] != "]":
            named_end = self.pattern.find(":]", at + 2) if self.pattern.startswith("[:", at) else -1
            if named_end >= 0:
                at = named_end + 2
            else:
                at += 2 if self.pattern[at] == "\\" else 1
        return at + 1

    def taken(self, end: int) -> str:
        text = self.pattern[self.position : end]
        self.position = end
        return text

    def repeated(self, part: Regex) -> Regex:
        """The part with the repetition that follows it, if one does."""
        found = _REPETITION.match(self.pattern, self.position)
        if found is None:
            return part
        self.position = found.end() + self.pattern.startswith("?", found.end())  # lazy or not: the same texts
        if found[1] is not None:
            low = int(found[1])
            high = low if not found[2] else (int(found[3]) if found[3] else None)
        else:
            low, high = {"*": (0, None), "+": (1, None), "?": (0, 1)}[found[0]]
        return Repeat(part, low, high)


def _characters(expression: str, flags: frozenset[str]) -> Regex:
    shown = "".join(sorted(flags & {"i", "s"}))
    return Characters(re2_ranges(f"(?{shown}:{expression})" if shown else expression))


def _one(char: str, flags: frozenset[str]) -> Regex:
    if "i" in flags and (char.isalpha() or not char.isascii()):
        return _characters(f"\\x{{{ord(char):x}}}", flags)
    return Characters(((ord(char), ord(char)),))


def _sequence(parts: list[Regex]) -> Regex:
    return parts[0] if len(parts) == 1 else Sequence(tuple(parts))
