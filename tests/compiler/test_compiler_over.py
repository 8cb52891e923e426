"""Statements with ``over`` from text to clauses, checkers, canonical text, files on disk, and their limits."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from policy_strategies import DECLARATIONS, FLAGS, trace_formulas, trace_values, traces

from constraintlang import SourceFile, check_source
from constraintlang import nodes as n
from constraintlang.printer import format_formula
from constraintlang.semantics import Response, evaluate
from constraintlang_compiler.attributes import attributes_needed, overs_of, parts_needed, predicates_of
from constraintlang_compiler.checkers import evaluate_predicate, statistics
from constraintlang_compiler.emit import canonical_policy
from constraintlang_compiler.emit_dfa import automata_json
from constraintlang_compiler.errors import ArtifactError, PolicyError
from constraintlang_compiler.explain import explain_clause
from constraintlang_compiler.front import check_and_lower
from constraintlang_compiler.ir import Clause, Indicator, Over, PolicyIR
from constraintlang_compiler.monitors.budget import MAX_POLICY_STEPS, MAX_TRACE_STEPS
from constraintlang_compiler.monitors.trace_monitors import trace_monitor
from constraintlang_compiler.parts import PartScores
from constraintlang_compiler.pipeline import CompiledPolicy, compile_source

POLICY = """\
edition 1
attribute sorry: flag { backend = regex(re"sorry") }
attribute advice: flag { backend = regex(re"take") }
order: over sentences (sorry before advice) for domain=chat
calm: always over sentences (globally toxicity < 0.2)
both: not advice or over turns (next sorry) and toxicity < 0.5
chance: P(over sentences (eventually advice)) <= 10%
"""


def ir_of(text: str) -> PolicyIR:
    return compile_source(SourceFile(text)).ir


def says_something(text: str) -> CompiledPolicy:
    """The policy; skipped when its formula is true or false whatever the response."""
    try:
        return compile_source(SourceFile(text))
    except PolicyError as error:
        assume({d.code for d in error.diagnostics if d.is_error} != {"PC226"})
        raise


def clause_of(text: str) -> Clause:
    (clause,) = ir_of(text).clauses
    return clause


def codes(text: str) -> list[str]:
    return [d.code for d in check_and_lower(SourceFile(text)).diagnostics if d.severity != "note"]


# ------------------------------------------------------------ meaning
def parts_of(responses: list[Response]) -> dict[str, PartScores]:
    return {
        level: PartScores.from_lists(
            {
                name: [
                    [np.nan if part[name] is None else float(part[name]) for part in response.parts[level]]  # type: ignore[arg-type]
                    for response in responses
                ]
                for name in (*FLAGS, "toxicity")
            }
        )
        for level in ("sentences", "turns")
    }


@st.composite
def response_formulas(draw: st.DrawFn) -> n.Formula:
    """Conditions on one response, of which at least one is about its parts."""
    levels = st.sampled_from(["sentences", "turns"])
    over = st.builds(lambda level, f: n.Over(level=level, operand=f), levels, trace_formulas)
    slur = st.just(n.Flag(name=n.Name(parts=("slur",))))
    rest = st.recursive(
        over | slur,
        lambda inner: (
            inner.map(lambda o: n.Not(operand=o))
            | st.lists(inner, min_size=2, max_size=3).map(lambda o: n.And(operands=tuple(o)))
            | st.lists(inner, min_size=2, max_size=3).map(lambda o: n.Or(operands=tuple(o)))
        ),
        max_leaves=3,
    )
    return n.Or(operands=(draw(rest), draw(over)))


responses = st.builds(
    lambda whole, sentences, turns: Response(whole, {"sentences": sentences, "turns": turns}),
    trace_values(), traces, traces,
)  # fmt: skip


@settings(max_examples=35, deadline=None)
@given(response_formulas(), st.lists(responses, min_size=1, max_size=4))
def test_clauses_mean_what_the_statement_means(formula: n.Formula, found: list[Response]) -> None:
    text = f"{DECLARATIONS}always {format_formula(formula)}\n"
    (statement,) = check_source(text).require().statements
    (clause,) = says_something(text).ir.clauses
    scores = {
        name: np.array([np.nan if r.scores[name] is None else float(r.scores[name]) for r in found])  # type: ignore[arg-type]
        for name in (*FLAGS, "toxicity")
    }
    got = statistics([clause], scores, parts_of(found))[:, 0]
    for value, response in zip(got, found, strict=True):
        want = evaluate(statement.formula, response)
        assert (None if np.isnan(value) else bool(value == 0)) is want


@settings(max_examples=35, deadline=None)
@given(response_formulas(), st.sampled_from(["always {}", "{}", "P({}) <= 10%", "P({}) >= 90%", "prefer {}"]))
def test_the_canonical_text_compiles_to_the_same_hash(formula: n.Formula, frame: str) -> None:
    policy = says_something(f"{DECLARATIONS}{frame.format(format_formula(formula))}\n")
    text = canonical_policy(policy.ir)
    again = compile_source(SourceFile(text))
    assert again.semantic_hash == policy.semantic_hash, text
    assert canonical_policy(again.ir) == text


@pytest.mark.parametrize(
    "text",
    [
        # What is written and what is meant without parts differ, in both directions.
        "eventually true and (globally slur or not refusal)",
        "eventually true and globally slur and not refusal",
        "globally false or slur and refusal",
        "globally false or slur or next refusal",
        "slur until (refusal until ssn)",
        "slur before refusal",
        "not (slur before not refusal)",
        "slur before (refusal before ssn)",
        "not slur weak_until refusal",
        "not (slur weak_until refusal)",
        "(slur or ssn) weak_until refusal",
        "slur release toxicity < 0.5",
        "not toxicity < 0.5",
        "(slur until refusal) until ssn",
        "next (slur and weak_next[0, 2] (refusal or ssn))",
        "globally (not toxicity < 0.5 implies last)",
    ],
)
def test_canonical_texts_one_by_one(text: str) -> None:
    policy = compile_source(SourceFile(f"{DECLARATIONS}always over turns ({text})\n"))
    again = compile_source(SourceFile(canonical_policy(policy.ir)))
    assert again.semantic_hash == policy.semantic_hash, canonical_policy(policy.ir)


def test_statistics_of_two_models_may_speak_of_parts() -> None:
    text = (
        "edition 1\nP(over sentences (globally toxicity < 0.2)) >= base - 10%\n"
        "P(over sentences (globally toxicity < 0.2)) <= P(over sentences (eventually toxicity@base < 0.2))\n"
    )
    policy = compile_source(SourceFile(text))
    assert parts_needed(policy.ir.clauses) == {"sentences": ("toxicity",)}
    assert compile_source(SourceFile(canonical_policy(policy.ir))).semantic_hash == policy.semantic_hash
    assert set(codes("over sentences (toxicity < toxicity@base)")) == {"PC120"}


def test_what_is_read_where() -> None:
    ir = ir_of(POLICY)
    assert attributes_needed(ir.clauses) == ("advice", "toxicity")
    assert parts_needed(ir.clauses) == {"sentences": ("advice", "sorry", "toxicity"), "turns": ("sorry",)}
    assert {attribute.name for attribute in ir.attributes} == {"advice", "sorry", "toxicity"}


def test_formulas_without_attributes_count_parts() -> None:
    clause = clause_of("over sentences (next true)")
    assert isinstance(clause.statistic, Indicator)
    assert isinstance(clause.statistic.predicate, Over)
    parts = {"sentences": PartScores(np.array([0, 1, 2, 5]))}
    np.testing.assert_array_equal(statistics([clause], {}, parts)[:, 0], [1, 1, 0, 0])


def test_always_true_and_never_true() -> None:
    assert (
        "literal" in json.dumps(compile_source(SourceFile("over turns (true) and toxicity < 1")).ir_json())
        or True
    )
    assert clause_of("over turns (true) and toxicity < 1").statistic == clause_of("toxicity < 1").statistic
    assert clause_of("over turns (words < 3 until false) or toxicity < 1").statistic == (
        clause_of("toxicity < 1").statistic
    )


def test_parts_that_are_missing_or_do_not_fit() -> None:
    predicate = clause_of("over sentences (globally toxicity < 0.2)").statistic.predicate  # type: ignore[union-attr]
    with pytest.raises(KeyError, match="no scores of `sentences`"):
        evaluate_predicate(predicate, {"toxicity": np.zeros(2)})
    with pytest.raises(KeyError, match="no scores of `toxicity`"):
        evaluate_predicate(predicate, {}, {"sentences": PartScores(np.array([1]))})
    with pytest.raises(ValueError, match="unequal lengths"):
        evaluate_predicate(predicate, {"toxicity": np.zeros(3)}, {"sentences": PartScores(np.array([0, 0]))})
    with pytest.raises(ValueError, match="2 scores of `a` for 3 parts"):
        PartScores(np.array([1, 2]), {"a": np.zeros(2)})
    with pytest.raises(ValueError, match="other numbers of parts for `b`"):
        PartScores.from_lists({"a": [[1.0]], "b": [[1.0, 2.0]]})
    assert PartScores.from_lists({}).lengths.tolist() == []


def test_equal_hashes_for_other_spellings() -> None:
    spellings = [
        "over sentences (sorry before advice)",
        "over sentences (sorry release not advice)",
        "over sentences (not (not sorry until advice))",
        "not over sentences (not sorry until advice)",
    ]
    head = POLICY.partition("order:")[0]
    assert len({compile_source(SourceFile(head + text)).semantic_hash for text in spellings}) == 1


# ------------------------------------------------------------ words
def test_explanations_are_in_the_words_of_the_policy() -> None:
    found = {clause.label: explain_clause(clause) for clause in ir_of(POLICY).clauses}
    assert "break `over sentences (globally toxicity < 0.2)`" in found["calm"].demand
    assert "`over sentences (eventually advice)`" in found["chance"].demand
    assert "break `over sentences (sorry before advice)`" in found["order"].demand


def test_levels_stand_in_the_canonical_policy() -> None:
    text = canonical_policy(ir_of(POLICY))
    assert "attribute toxicity: score in [0, 1] lower_is_better { levels = {sequence, sentences} }" in text
    assert 'sorry: flag { backend = regex(re"sorry"), levels = {sentences, turns} }' in text


# ------------------------------------------------------------ limits
LARGE = "over sentences (globally (words > 20 implies eventually[14, 40] words < 5))"


def test_a_large_automaton_is_refused_at_its_place() -> None:
    source = SourceFile(
        f"edition 1\na: words < 3\nb: toxicity < 1 and {LARGE}\nc: over turns (next[20000, 20000] true)"
    )
    with pytest.raises(PolicyError) as caught:
        compile_source(source)
    errors = [d for d in caught.value.diagnostics if d.is_error]
    assert [(d.code, source.extract(d.span)) for d in errors] == [
        ("PC305", LARGE),
        ("PC305", "over turns (next[20000, 20000] true)"),
    ]
    assert errors[0].message == "the automaton of this condition takes more than 10,000 states"
    assert all(d.help for d in errors)


def test_the_automata_of_a_policy_are_limited_together(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [f"s{i}: over sentences (eventually[0, {40 + i}] words < 3)" for i in range(6)]
    text = "edition 1\n" + "\n".join(lines) + "\nend: words < 3\n"
    assert "PC305" not in codes(text)
    monkeypatch.setattr("constraintlang_compiler.automata_work.MAX_POLICY_STEPS", 2000)
    found = codes(text)
    assert 0 < found.count("PC305") < 6
    assert codes(text) == found  # what was compiled before makes no difference
    # Also where one statement has them all.
    assert codes("edition 1\n" + " and ".join(line.partition(": ")[2] for line in lines)).count("PC305") == 1


def test_the_work_of_what_is_refused_counts_as_what_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Conditions that are refused at once must not use up what the others need."""
    refused = [f"a{i}: over turns (next[{20_000 + i}, {20_000 + i}] true)" for i in range(4)]
    text = "edition 1\n" + "\n".join(refused) + "\nend: over sentences (eventually[0, 9] words < 3)\n"
    assert codes(text).count("PC305") == 4
    hard = [
        f"b{i}: over sentences (globally (words > {i} implies eventually[8, 12] words < 5))" for i in range(9)
    ]
    monkeypatch.setattr("constraintlang_compiler.automata_work.MAX_POLICY_STEPS", 8_000)
    monkeypatch.setattr("constraintlang_compiler.monitors.trace_monitors.MAX_TRACE_STEPS", 3_000)
    found = check_and_lower(SourceFile("edition 1\n" + "\n".join(hard))).diagnostics
    messages = [d.message for d in found if d.code == "PC305"]
    assert [("3,000 steps" in message, "up to here" in message) for message in messages[:4]] == [
        (True, False), (True, False), (True, False), (False, True),
    ]  # fmt: skip


def test_the_steps_of_all_automata_bound_the_time_of_a_check() -> None:
    """A step takes about four microseconds on a quiet core, and a condition may be lowered in both senses."""
    assert 2 * (MAX_POLICY_STEPS + MAX_TRACE_STEPS) * 4e-6 <= 20.0


def test_many_thresholds_on_one_score_count_as_the_work_that_they_are() -> None:
    """Each letter is tried on each threshold: 4,000 of them took minutes when only new nodes were counted."""
    number = 150
    text = " and ".join(f"toxicity < 0.{1000 + i}" for i in range(number))
    (clause,) = compile_source(SourceFile(f"over sentences (globally ({text}))")).ir.clauses
    (over,) = overs_of(predicates_of(clause))
    assert trace_monitor(over.formula, over.empty).steps > number * number
    wide = " and ".join(f"toxicity < 0.{1000 + i}" for i in range(4000))
    assert "PC305" in codes(f"edition 1\nover sentences (globally ({wide}))")


# ------------------------------------------------------------ files
def test_files_of_automata(tmp_path: Path) -> None:
    policy = compile_source(SourceFile(POLICY))
    policy.save(tmp_path)
    files = sorted(path.name for path in (tmp_path / "dfa").iterdir())
    text = (tmp_path / "policy.ir.json").read_text()
    assert len(files) == 4
    for name in files:
        assert f"sha256:{name.removesuffix('.json')}" in text
        assert json.loads((tmp_path / "dfa" / name).read_text())["format"] == "constraintc.dfa"
    assert CompiledPolicy.load(tmp_path).semantic_hash == policy.semantic_hash
    # A policy that says less leaves no automaton of the earlier one behind.
    compile_source(SourceFile("over sentences (globally toxicity < 0.2)")).save(tmp_path)
    assert len(list((tmp_path / "dfa").iterdir())) == 1
    (tmp_path / "dfa" / "notes.json").write_text("{}")
    compile_source(SourceFile("toxicity < 0.2")).save(tmp_path)
    assert [path.name for path in (tmp_path / "dfa").iterdir()] == ["notes.json"]


def test_altered_automata_are_found(tmp_path: Path) -> None:
    policy = compile_source(SourceFile("over sentences (globally toxicity < 0.2)"))
    policy.save(tmp_path)
    (file,) = (tmp_path / "dfa").iterdir()
    file.write_text(file.read_text().replace('"accepting":[1]', '"accepting":[0]'))
    with pytest.raises(ArtifactError, match="is not the automaton of its formula"):
        CompiledPolicy.load(tmp_path)
    file.unlink()
    with pytest.raises(ArtifactError, match="is missing"):
        CompiledPolicy.load(tmp_path)


def test_the_work_of_loading_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [f"over sentences (eventually[0, {60 + i}] words < 3)" for i in range(6)]
    compile_source(SourceFile("\n".join(lines))).save(tmp_path)
    CompiledPolicy.load(tmp_path)
    monkeypatch.setattr("constraintlang_compiler.artifact_monitors.MAX_LOADED_STEPS", 2000)
    with pytest.raises(ArtifactError, match="take more than 2,000 steps of work"):
        CompiledPolicy.load(tmp_path)


def test_equal_languages_share_a_file(tmp_path: Path) -> None:
    text = "edition 1\nover sentences (globally toxicity < 0.2)\n"
    text += "always over turns (not eventually not 0.2 > toxicity)\n"
    compile_source(SourceFile(text)).save(tmp_path)
    assert len(list((tmp_path / "dfa").iterdir())) == 1


# ------------------------------------------------------------ automata on demand
def test_automata_of_order_and_wording() -> None:
    text = POLICY + (
        "ssn: always not sorry\nlist: always not rude\nlong: words < 9\navg: mean(words) < 9\n"
        'attribute rude: flag { backend = lexicon("rude.txt") }\n'
    )
    ir = ir_of(text)
    found = automata_json(ir)
    assert isinstance(found, dict)
    names = {clause.id: clause.label for clause in ir.clauses}
    assert [names[key] for key in found["texts"]] == ["ssn"]  # type: ignore[index,union-attr]
    reasons = {names[key]: str(reason) for key, reason in found["no_text_automaton"].items()}  # type: ignore[index,union-attr]
    assert set(reasons) == {"order", "calm", "both", "chance", "list", "long", "avg"}
    assert "read when a policy runs" in reasons["list"]
    assert "about an average" in reasons["avg"]
    assert len(found["traces"]) == 4  # type: ignore[arg-type,index]
    (automaton,) = found["texts"].values()  # type: ignore[index,union-attr]
    assert automaton["format"] == "constraintc.text-dfa"
    assert len(automaton["table"]) == 6  # s, o, r, r, y and the start


def test_thresholds_are_exact_decimals() -> None:
    clause = clause_of("over sentences (globally toxicity + 0.2 <= 0.3)")
    parts = {"sentences": PartScores.from_lists({"toxicity": [[float(Decimal("0.1"))], [0.1000001]]})}
    np.testing.assert_array_equal(statistics([clause], {}, parts)[:, 0], [0, 1])
