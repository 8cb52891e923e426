"""What must be true of every text that somebody takes for a policy, well written or not."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from constraintlang import PolicyError, SourceFile, format_policy, parse
from constraintlang.catalogue import PAGES
from constraintlang.diagnostics import Diagnostic
from constraintlang.fixes import apply_edits
from constraintlang_compiler.artifact_format import semantics_json
from constraintlang_compiler.canonical import sha256_of
from constraintlang_compiler.catalogue import OWN_PAGES
from constraintlang_compiler.emit import canonical_policy
from constraintlang_compiler.front import check_and_lower
from constraintlang_compiler.ir import PolicyIR
from constraintlang_compiler.pipeline import compile_source
from constraintlang_compiler.sources import decode_source

SECONDS = 1.0
"""Processor time that one input may take."""
CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
OF_THE_PARSER = frozenset({"PC001", "PC002", "PC003", "PC005", "PC006", "PC007", "PC008", "PC009"})
"""Codes that only the parser gives, as errors: what has one cannot be printed."""
INTERNAL = re.compile(
    r"\b(?:_NL|NAME|LPAR|RPAR|LSQB|RSQB|LBRACE|RBRACE|CMP|VBAR|UNKNOWN|Token|Traceback)\b|\$END"
)


class TooSlow(Exception):
    """An input took longer than it may."""


@dataclass(frozen=True)
class Verdict:
    """How an input ended, ``unreadable``, ``rejected`` or ``accepted``, and the codes of its findings."""

    ending: str
    codes: frozenset[str]


def judge(content: bytes | str) -> Verdict:
    """Check one input against every property.

    Raises: AssertionError with the property that fails; TooSlow; whatever escapes from the code under test.
    """
    with time_limit(SECONDS):
        if isinstance(content, bytes):
            try:
                source = decode_source(content, "fuzz.policy")
            except PolicyError as error:
                for diagnostic in error.diagnostics:
                    well_formed(diagnostic, error.source)
                return Verdict("unreadable", frozenset(d.code for d in error.diagnostics))
        else:
            source = SourceFile(content, "fuzz.policy")
        front = check_and_lower(source)
        for diagnostic in front.diagnostics:
            well_formed(diagnostic, source)
        codes = frozenset(d.code for d in front.diagnostics)
        has_errors = any(d.is_error for d in front.diagnostics)
        assert (front.lowered is None) == has_errors, "a policy is rejected exactly when it has errors"
        printed = _round_trip(source) if codes.isdisjoint(OF_THE_PARSER) else None
        if front.lowered is None:
            return Verdict("rejected", codes)
        assert printed is not None, "an accepted policy cannot be printed"
        _same_meaning(printed, front.lowered.ir)
        return Verdict("accepted", codes)


def well_formed(diagnostic: Diagnostic, source: SourceFile) -> None:
    """A finding has a code with a page, lies in the file, says what to do and can be shown; its fix can be made."""
    source = diagnostic.source or source
    assert diagnostic.code in PAGES or diagnostic.code in OWN_PAGES, f"no page for {diagnostic.code}"
    spans = [diagnostic.span, *(label.span for label in diagnostic.labels)]
    assert all(0 <= s.start <= s.end <= len(source.text) for s in spans), f"outside the file: {diagnostic}"
    if diagnostic.fix is not None:
        edits = diagnostic.fix.edits
        assert all(0 <= e.span.start <= e.span.end <= len(source.text) for e in edits), diagnostic
        assert apply_edits(source.text, edits) != source.text, f"a fix that changes nothing: {diagnostic}"
    assert not diagnostic.is_error or diagnostic.help, f"no help: {diagnostic}"
    for text in (diagnostic.message, diagnostic.help or ""):
        written = source.text
        assert not text.endswith("."), f"final stop: {text}"
        assert not (INTERNAL.search(text) and not INTERNAL.search(written)), f"internal word: {text}"
    assert "\n" not in diagnostic.message, f"several lines: {diagnostic.message!r}"
    for text in (diagnostic.message, diagnostic.help or "", diagnostic.label or ""):
        assert len(text) < 1000, f"{len(text)} characters: {text[:100]}"
    shown = diagnostic.render(source)
    assert not CONTROL.search(shown), f"control characters in {shown!r}"
    json.dumps(diagnostic.to_json(source)).encode()


def _round_trip(source: SourceFile) -> str | None:
    """The policy as it is printed; None where it does not parse."""
    tree, diagnostics = parse(source)
    if any(d.is_error for d in diagnostics):
        return None
    text = format_policy(tree)
    again, found = parse(text)
    assert not [d for d in found if d.is_error], f"the printed policy does not parse: {text!r}"
    assert again == tree, f"print and parse change the policy: {text!r}"
    assert format_policy(again) == text, f"formatting twice differs from once: {text!r}"
    comments, kept = ([c.text for c in t.comments if c.text] for t in (tree, again))
    assert kept == comments, f"comments are lost or out of order: {text!r}"
    return text


def _same_meaning(printed: str, ir: PolicyIR) -> None:
    meaning = sha256_of(semantics_json(ir))
    assert compile_source(SourceFile(printed)).semantic_hash == meaning, "formatting changes the meaning"
    canonical = canonical_policy(ir)
    assert compile_source(SourceFile(canonical)).semantic_hash == meaning, (
        f"the canonical text means something else: {canonical!r}"
    )


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TooSlow after so much processor time; a machine that is busy with other things changes nothing."""

    def stop(signum: int, frame: object) -> None:
        raise TooSlow(f"more than {seconds} s of processor time")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
