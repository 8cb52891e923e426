"""Policies that the tests of the editor work on."""

from __future__ import annotations

from pathlib import Path

GOLDEN = Path(__file__).parent / "golden" / "policies"
TEXTS = {path.stem: path.read_text(encoding="utf-8") for path in sorted(GOLDEN.glob("*.policy"))}
BASE = """edition 1
let cap = 0.1
attribute grade: real in [0, 10] higher_is_better { backend = python("acme:grade") }
attribute slur: flag { backend = regex(re"x") }
domain chat { source = jsonl("a.jsonl"), tags = {lang, topic} }
tag lang in {en, de}
polite: toxicity < cap
"""
