"""What is offered while a policy is typed: the broken bar is the cursor."""

from __future__ import annotations

import pytest
from editor_texts import BASE, TEXTS

from constraintc.lsp.completion import complete
from constraintc.lsp.document import Document
from constraintlang import vocabulary as v
from constraintlang.wording import KEYWORDS


def completed(text: str) -> list[str]:
    """The words offered at the broken bar."""
    offset = text.index("¦")
    return [
        item.label for item in complete(Document(BASE + text.replace("¦", "", 1)), len(BASE) + offset).items
    ]


@pytest.mark.parametrize(
    ("text", "offered", "not_offered"),
    [
        ("¦", ["toxicity", "grade", "mean", "P", "prefer", "always", "attribute", "group"], ["and", "globally", "en"]),
        ("to¦", ["toxicity"], []),
        ("toxicity ¦", ["in"], ["toxicity", "attribute"]),
        ("toxicity < ¦", ["cap", "toxicity"], ["slur", "grade", "words", "mean", "base", "for"]),
        ("words < ¦", ["words", "sentences"], ["toxicity", "slur"]),
        ("toxicity < 0.1 ¦", ["and", "or", "for", "under", "because"], ["toxicity", "cap", "until", "let"]),
        ("toxicity < 0.1 and ¦", ["slur", "toxicity", "not", "mean"], ["and", "let"]),
        ("mean(¦", ["toxicity", "grade"], ["slur", "mean", "cap", "P"]),
        ("P(¦", ["toxicity", "slur", "not"], ["mean", "P"]),
        ("P(toxicity > ¦", ["cap", "toxicity"], ["slur", "mean"]),
        ("quantile(toxicity, ¦", ["cap"], ["toxicity", "slur"]),
        ("mean(toxicity) < ¦", ["cap"], ["toxicity", "slur"]),
        ("preserve ¦", ["mean", "always"], []),
        ("preserve mean(¦", ["perplexity", "accuracy", "grade"], ["base"]),
        ("preserve mean(perplexity) <= 1.02 * ¦", ["base"], ["perplexity"]),
        ("mean(toxicity) <= ¦", ["cap"], ["base", "perplexity"]),
        ("toxicity < 1 for ¦", ["domain", "lang", "topic", "not"], ["toxicity", "cap"]),
        ("toxicity < 1 for domain=¦", ["chat"], ["en", "lang", "toxicity"]),
        ("toxicity < 1 for domain in {¦", ["chat"], ["en"]),
        ("toxicity < 1 for lang=¦", ["en", "de"], ["chat"]),
        ("toxicity < 1 for lang in {en, ¦", ["en", "de"], ["chat"]),
        ("toxicity < 1 for topic=¦", [], ["en", "chat"]),
        ("toxicity < 1 for lang=en and ¦", ["domain", "topic"], ["toxicity"]),
        ("P(toxicity > 1 | lang=¦", ["en", "de"], ["toxicity"]),
        ("P(toxicity > 1 | ¦", ["domain", "lang"], ["toxicity"]),
        ("P(slur | lang=en) < ¦", ["cap"], ["en", "lang"]),
        ("toxicity < 1 per ¦", ["lang", "topic"], ["domain"]),
        ("toxicity < 1 under ¦", ["temperature", "tolerance"], ["lang", "toxicity"]),
        ("toxicity < 1 under samples=3, ¦", ["temperature"], ["lang"]),
        ("toxicity < 1 under temperature=¦", [], ["temperature", "cap"]),
        ("prefer toxicity < 1 weight ¦", ["cap"], ["toxicity"]),
        ("over ¦", ["sentences", "tokens", "turns"], ["sequence", "toxicity"]),
        ("over sentences (¦", ["globally", "eventually", "slur"], []),
        ("attribute x: ¦", ["score", "flag", "real"], ["toxicity", "lower_is_better"]),
        ("attribute x: score ¦", ["lower_is_better", "in"], ["score"]),
        ("attribute x: score { ¦", ["backend", "levels"], ["source", "lower_is_better"]),
        ("attribute x: score { backend = ¦", ["classifier", "python"], ["backend"]),
        ("attribute x: int { backend = length(¦", ["words", "tokens"], ["classifier"]),
        ('attribute x: score { backend = classifier("a", ¦', ["label", "revision"], ["words"]),
        ('attribute x: score { backend = python("a:b", deterministic=¦', ["true", "false"], ["label"]),
        ('attribute x: score { backend = python("a:b"), levels = {¦', ["sentences", "tokens"], ["en"]),
        ("domain x { ¦", ["source", "tags"], ["backend"]),
        ("domain x { tags = {¦", ["lang", "topic"], ["sentences"]),
        ("tag topic ¦", ["in"], ["en"]),
        ("let other = ¦", ["cap"], ["toxicity", "mean"]),
        ("let ¦", [], ["cap", "toxicity"]),
        ("group g ¦", ["for", "priority", "under"], ["toxicity"]),
        ("group g for lang=¦", ["en"], []),
        ("group g {\n  ¦", ["toxicity", "prefer", "group", "test"], ["let", "attribute", "domain"]),
        ("group g {\n  toxicity < 1\n}\n¦", ["let", "attribute"], []),
        ('test "x" {\n  ¦', ["given", "pass", "holds"], ["toxicity"]),
        ('test "x" {\n  given ¦', ["toxicity", "slur"], ["cap", "pass"]),
        ('test "x" {\n  given toxicity = 0.1\n  fail on ¦', ["polite"], ["pass", "toxicity"]),
        ("reference_perplexity@¦", ["base"], ["toxicity"]),
        ("toxicity < 1\n  ¦", ["and", "for", "toxicity", "let"], []),
        ("a: ¦\nb: toxicity < 1", ["toxicity", "prefer"], []),
        ("# tox¦", [], ["toxicity"]),
        ('toxicity < 1 because "tox¦', [], ["toxicity"]),
        ("toxicity < 0.1e¦", [], ["toxicity"]),
    ],
)  # fmt: skip
def test_completion(text: str, offered: list[str], not_offered: list[str]) -> None:
    found = completed(text)
    assert set(offered) <= set(found)
    assert not set(not_offered) & set(found)
    assert len(found) == len(set(found))


def test_what_is_likely_comes_first() -> None:
    assert completed("¦")[:2] == ["grade", "slur"]  # of the file, before those that every policy knows
    assert completed("mean(toxicity) < ¦")[0] == "cap"
    assert completed("toxicity < 1\n  ¦").index("and") < completed("toxicity < 1\n  ¦").index("attribute")


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_what_was_written_would_have_been_offered(text: str) -> None:
    document = Document(text)
    names = {one.span.start: one for one in document.occurrences}
    declared = {one.name for one in document.occurrences if one.defines} | {
        "toxicity",
        "words",
        "perplexity",
        "accuracy",
    }
    num_offered = 0
    for token in document.tokens:
        one = names.get(token.start_pos)
        if token.type in KEYWORDS:
            expected = True
        elif one is None or one.defines or token.type != "NAME":
            expected = False
        elif one.kind in ("domain", "value"):
            expected = any(
                o.defines and (o.kind, o.owner, o.name) == (one.kind, one.owner, one.name)
                for o in names.values()
            )
        else:
            foreign = one.kind == "source" or (one.kind == "option" and one.owner not in v.BACKENDS)
            expected = not foreign and (one.kind not in ("tag", "label") or one.name in declared)
        if expected:
            found = complete(document, token.start_pos)
            assert str(token) in [item.label for item in found.items], text[: token.end_pos][-60:]
            num_offered += 1
    assert num_offered
