"""The forty properties of the language, the test of each, and a bug that the test has to see."""

from __future__ import annotations

from dataclasses import dataclass

LANGUAGE = "constraintlang/constraintlang/"
COMPILER = "compiler/constraintlang_compiler/"
RUNTIME = "runtime/constraintlang_runtime/"


@dataclass(frozen=True)
class Edit:
    """A text that stands exactly once in a file, and what the bug makes of it."""

    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Record:
    """A property by its number, one test of it, and a bug in a few words."""

    number: int
    statement: str
    test: str
    bug: str
    edits: tuple[Edit, ...]


RECORDS: tuple[Record, ...] = ()


def _plant(number: int, statement: str, test: str, bug: str, *edits: tuple[str, str, str]) -> None:
    global RECORDS
    RECORDS += (Record(number, statement, f"tests/{test}", bug, tuple(Edit(*edit) for edit in edits)),)


_MARGINS = "constraintlang/test_language_margins.py::"
_THRESHOLDS = "constraintlang/test_language_thresholds.py::"
_STATISTICS = "constraintlang/test_language_statistics.py::"
_LAWS = "constraintlang/test_language_laws.py::"
_TEMPORAL = "constraintlang/test_language_temporal.py::"
_EVIDENCE = "runtime/test_runtime_evidence.py::"
_TRACES = "compiler/test_compiler_traces.py::"
_IDENTITY = "compiler/test_compiler_identity.py::"

# ------------------------------------------------------------ margin and Boolean
_plant(
    1, "A positive margin means true, a negative one false.",
    _MARGINS + "test_1_the_sign_is_the_truth_value",
    "the margin of a flag has the wrong sign",
    (LANGUAGE + "margins.py", "HALF if value != atom.negated", "HALF if value == atom.negated"),
)  # fmt: skip
_plant(
    1, "A positive margin means true, a negative one false.",
    _MARGINS + "test_1_on_the_distribution",
    "`>` has the margin of `<`",
    (LANGUAGE + "margins.py", 'if atom.operator in ("<", "<=")', 'if atom.operator in ("<", "<=", ">")'),
)  # fmt: skip
_plant(
    2, "For every connective and pair of crisp atoms the sign of the margin is the truth value, in every logic.",
    _MARGINS + "test_2_a_connective_of_any_two_atoms_has_the_sign_of_its_truth_value",
    "`implies` does not negate its premise",
    (LANGUAGE + "normal_form.py", "normal_form(formula.left, negated=not negated)",
     "normal_form(formula.left, negated=negated)"),
)  # fmt: skip
_plant(
    3, "The margin of `not f` is minus that of `f`.",
    _MARGINS + "test_3_negation_turns_the_crisp_margin",
    "`not` is not pushed into `!=`",
    (LANGUAGE + "normal_form.py", '"==": "!=", "!=": "=="', '"==": "!=", "!=": "!="'),
)  # fmt: skip
_plant(
    3, "Double negation, De Morgan, and `implies` as `not a or b`.",
    _MARGINS + "test_3_laws_of_negation",
    "a negated `and` stays an `and`",
    (LANGUAGE + "normal_form.py", "isinstance(formula, n.And) != negated", "isinstance(formula, n.And)"),
)  # fmt: skip
_plant(
    4, "Moving all scores by less than the margin does not change the verdict.",
    _MARGINS + "test_4_less_than_the_margin_changes_nothing",
    "the margin of a comparison is twice its distance",
    (LANGUAGE + "margins.py", "else left - right) / width", "else left - right) * 2 / width"),
)  # fmt: skip
_plant(
    5, "The margin moves no faster than the scores, in units of their scales.",
    _MARGINS + "test_5_the_margin_moves_no_faster_than_the_scores",
    "a comparison of several scores is measured by half of their scales",
    (LANGUAGE + "scales.py", "abs(factor) * scales[name] for", "abs(factor) / 2 * scales[name] for"),
)  # fmt: skip
_plant(
    6, "Another unit of an attribute and its thresholds changes neither verdict nor margin.",
    _MARGINS + "test_6_units_do_not_matter",
    "every declared range counts as 1 wide",
    (LANGUAGE + "scales.py", "Fraction(info.high) - Fraction(info.low)", "Fraction(1)"),
)  # fmt: skip
_plant(
    7, "`and` and `or` are associative, commutative, idempotent and absorbing.",
    _MARGINS + "test_7_lattice_laws",
    "nested connectives of one kind are not flattened",
    (LANGUAGE + "normal_form.py",
     "flat.extend(part.parts if isinstance(part, Junction) and part.all == all else [part])",
     "flat.append(part)"),
)  # fmt: skip
_plant(
    8, "The smooth margin is never above the crisp one, and at most its gap below.",
    _MARGINS + "test_8_below_the_crisp_margin_and_near_it",
    "the smooth `and` adds the logarithm",
    (LANGUAGE + "margins.py", "return low - math.log(", "return low + math.log("),
)  # fmt: skip
_plant(
    8, "Its derivatives are finite, and never all zero.",
    _MARGINS + "test_8_finite_with_finite_derivatives_that_add_up_to_one",
    "the derivatives of the smooth `and` are not normalised",
    (LANGUAGE + "margins.py", "[power / sum(powers) for power in powers]", "powers"),
)  # fmt: skip
_plant(
    8, "Its derivatives are those of its value.",
    _MARGINS + "test_8_derivatives_against_differences",
    "a sign in the derivative of the smooth `or`",
    (LANGUAGE + "margins.py", "[w * (1 + sharpness *", "[w * (1 - sharpness *"),
)  # fmt: skip
_plant(
    9, "Replacing an unknown score by a number never turns what was known.",
    _MARGINS + "test_9_knowing_more_never_changes_what_was_known",
    "`and` forgets its unknown operands",
    (LANGUAGE + "kleene.py", "return None if any(value is None for value in values) else True", "return True"),
)  # fmt: skip
_plant(
    10, "A number outside the declared range is no score.",
    "constraintlang/test_language_scores.py::test_10_only_finite_numbers_in_range_are_scores",
    "a little above the range passes",
    (LANGUAGE + "scores.py", "value > high)", "value > high + 1)"),
)  # fmt: skip
_plant(
    10, "Impossible scores become errors, never numbers.",
    _EVIDENCE + "test_10_impossible_scores_never_become_numbers",
    "a score above its range is clipped to the end of it",
    (RUNTIME + "verify_plain.py", " & (values <= high + slack)", ""),
)  # fmt: skip
# ------------------------------------------------------------ thresholds and readings
_plant(
    11, "A looser threshold never turns holds into violated, nor raises the rate that training pays for.",
    _THRESHOLDS + "test_11_a_looser_threshold_never_turns_holds_into_violated",
    "the two ends of an interval are exchanged",
    (LANGUAGE + "semantics.py", "number(e, scores) for e in (formula.low, formula.operand, formula.high)",
     "number(e, scores) for e in (formula.high, formula.operand, formula.low)"),
)  # fmt: skip
_plant(
    11, "The same of statements on the distribution.",
    _THRESHOLDS + "test_11_on_the_distribution",
    "`>=` compares like `<=`",
    (LANGUAGE + "semantics.py", "return left >= right", "return left <= right"),
)  # fmt: skip
_plant(
    11, "A looser bound never turns a verdict of holds into violated.",
    _EVIDENCE + "test_11_a_looser_bound_never_turns_holds_into_violated",
    "holds when the upper bound lies above the allowed one",
    (RUNTIME + "deciding.py", "if upper < bound or", "if upper > bound or"),
)  # fmt: skip
_plant(
    11, "A looser bound never raises the penalty: a tighter one costs divergence.",
    "runtime/test_runtime_identities.py::test_identity_12_tightening_a_bound_costs_kl_and_lowers_its_mean",
    "a sign in the divergence of the projection",
    (
        RUNTIME + "projection.py",
        "kl = float(-((scope * duals) @ means) - log_z)", "kl = float(((scope * duals) @ means) + log_z)",
    ),
)  # fmt: skip
_plant(
    12, "Strict and not strict differ only at equality, and not in the margin.",
    _THRESHOLDS + "test_12_strict_and_not_strict_differ_only_at_equality",
    "`<` wants a distance",
    (LANGUAGE + "semantics.py", "return left < right", "return left < right - Fraction(1, 5)"),
)  # fmt: skip
_plant(
    12, "At equality the verdict tells them apart.",
    _THRESHOLDS + "test_12_at_equality_the_verdict_shows_it",
    "`<=` is strict",
    (LANGUAGE + "semantics.py", "return left <= right", "return left < right"),
)  # fmt: skip
_plant(
    12, "Strict and not strict verdicts on samples differ only at equality.",
    _EVIDENCE + "test_12_strict_and_not_strict_differ_only_at_equality",
    "a strict bound may be reached",
    (RUNTIME + "deciding.py", "(upper == bound and not strict)", "upper == bound"),
)  # fmt: skip
_plant(
    13, "`always a < c` implies the same of the mean, every quantile and cvar, and P(a >= c) = 0.",
    _THRESHOLDS + "test_13_always_implies_every_reading",
    "the mean forgets the weights",
    (LANGUAGE + "semantics.py", "sum((probability * value for probability, value in known)",
     "sum((value for _, value in known)"),
)  # fmt: skip
_plant(
    14, "None of these readings implies `always`.",
    _THRESHOLDS + "test_14_no_reading_implies_always",
    "the mean is the largest value",
    (LANGUAGE + "semantics.py", "return sum((probability * value for probability, value in known), Fraction(0))",
     "return max(value for _, value in known)"),
)  # fmt: skip
_plant(
    15, "`quantile(a, q) <= t` says the same as `P(a <= t) >= q`.",
    _THRESHOLDS + "test_15_a_quantile_bound_is_a_bound_on_a_chance",
    "the level has to be passed, not reached",
    (LANGUAGE + "tails.py", "if mass >= level:", "if mass > level:"),
)  # fmt: skip
_plant(
    15, "A quantile is the inverse of the distribution function.",
    _STATISTICS + "test_a_quantile_is_the_inverse_of_the_distribution_function",
    "a quantile lies half way to the next value",
    (LANGUAGE + "tails.py", "            return value\n", "            return (value + law[-1][1]) / 2\n"),
)  # fmt: skip
_plant(
    16, "cvar lies between quantile or mean and the largest value; `cvar(a, q) <= t` implies `P(a > t) <= 1 - q`.",
    _LAWS + "test_16_cvar_lies_between_quantile_or_mean_and_the_largest_value",
    "the excess is multiplied by 1 - q",
    (LANGUAGE + "tails.py", "excess(law, eta) / (1 - level)", "excess(law, eta) * (1 - level)"),
)  # fmt: skip
_plant(
    17, "Markov: where a >= 0, P(a >= t) <= mean(a) / t.",
    _THRESHOLDS + "test_17_markov",
    "the mean squares its values",
    (LANGUAGE + "semantics.py", "sum((probability * value for", "sum((probability * value * value for"),
)  # fmt: skip
_plant(
    18, "P(f) + P(not f) = 1, and P grows with what is implied.",
    _THRESHOLDS + "test_18_chances_add_up_and_are_monotone",
    "`and` is true as soon as one operand is",
    (LANGUAGE + "kleene.py", "if any(value is False for value in values):",
     "if all(value is False for value in values):"),
)  # fmt: skip
_plant(
    18, "Total probability over conditions on prompts.",
    _STATISTICS + "test_total_probability_over_conditions",
    "a conditional law does not add up to 1",
    (LANGUAGE + "semantics.py", "(row[0] / mass, *row[1:])", "(row[0], *row[1:])"),
)  # fmt: skip
_plant(
    19, "The order of the samples, and taking each twice, changes no value.",
    _LAWS + "test_19_neither_order_nor_repetition_of_the_samples_matters",
    "a quantile takes the rows as they come",
    (LANGUAGE + "tails.py", "in sorted(law, key=lambda entry: entry[1]):", "in law:"),
)  # fmt: skip
_plant(
    20, "The base model itself meets every bound relative to it, with equality.",
    _LAWS + "test_20_the_base_model_itself_meets_every_bound_with_equality",
    "the first response of the base model is lost",
    (LANGUAGE + "semantics.py", "argument, rows = own(argument), base", "argument, rows = own(argument), base[1:]"),
)  # fmt: skip
_plant(
    21, "A statement with `per` holds exactly when it holds in every stratum.",
    _LAWS + "test_21_a_stratified_statement_holds_when_every_stratum_does",
    "one stratum is enough",
    (LANGUAGE + "semantics.py", "return bool(conditions) and all(", "return bool(conditions) and any("),
)  # fmt: skip
# ------------------------------------------------------------ evidence
_plant(
    21, "A stratum without prompts is vacuous, and the policy has not passed.",
    _EVIDENCE + "test_21_all_strata_hold_or_the_statement_does_not",
    "no prompts are as good as few",
    (RUNTIME + "deciding.py", "if n == 0:\n        return \"vacuous\"", "if n < 0:\n        return \"vacuous\""),
)  # fmt: skip
_plant(
    22, "The chance of a wrong `holds` is at most that allowed, jointly over all clauses; exact for rates.",
    _EVIDENCE + "test_22_a_wrong_holds_is_rare_whatever_the_rate",
    "twice the error probability in the exact bound of a rate",
    (COMPILER + "bounds.py", "betainccinv(failures + 1, n - failures, alpha)",
     "betainccinv(failures + 1, n - failures, 2 * alpha if alpha < 0.5 else alpha)"),
)  # fmt: skip
_plant(
    22, "The same of means, by simulation.",
    _EVIDENCE + "test_22_a_wrong_holds_of_a_mean_is_rare",
    "the bound is a tenth too tight",
    (COMPILER + "bounds.py", "return 1.0 - betting_lower(1.0 - ",
     "return 1.0 - 1.1 * betting_lower(1.0 - "),
)  # fmt: skip
_plant(
    23, "More samples of the same law never turn a decision into its opposite.",
    _EVIDENCE + "test_23_more_samples_of_one_law_never_reverse_a_decision",
    "the lower bound of a rate is taken at the wrong side",
    (RUNTIME + "verify_plain.py", "clopper_pearson_lower(counts.violating, n, alpha)",
     "clopper_pearson_lower(counts.violating, n, 1 - alpha)"),
)  # fmt: skip
_plant(
    24, "More confidence never decides what less did not.",
    _EVIDENCE + "test_24_more_confidence_never_decides_more",
    "the confidence serves as the error probability",
    (COMPILER + "clean_bounds.py", "return (1.0 - confidence) / num_statements", "return confidence / num_statements"),
)  # fmt: skip
_plant(
    25, "`always` on n clean samples prints the bound that they earn, about 3/n at 95%.",
    _EVIDENCE + "test_25_always_prints_the_bound_that_clean_samples_earn",
    "one sample more is counted than was drawn",
    (RUNTIME + "verify_plain.py", "clopper_pearson_upper(counts.violating + counts.unavailable, n, alpha)",
     "clopper_pearson_upper(counts.violating + counts.unavailable, n + 1, alpha)"),
)  # fmt: skip
# ------------------------------------------------------------ temporal
_plant(
    26, "The automaton accepts what the direct semantics accepts, on all short traces and the empty one.",
    _TRACES + "test_accepts_what_the_reference_accepts_on_every_short_trace",
    "`weak_next` is false on the empty trace",
    (COMPILER + "lower_traces.py", 'return op in ("globally", "weak_next")', 'return op == "globally"'),
)  # fmt: skip
_plant(
    26, "The same of every operator with and without bounds.",
    _TRACES + "test_every_operator_alone",
    "a window ends one position early",
    (COMPILER + "monitors/progression.py", "for distance in range(low, high + 1):",
     "for distance in range(low, max(low + 1, high)):"),
)  # fmt: skip
_plant(
    27, "Negation flips acceptance.",
    _TRACES + "test_negation_flips_acceptance",
    "a negated `eventually` stays one",
    (COMPILER + "lower_traces.py", 'some=(op in ("eventually", "next")) != negated',
     'some=op in ("eventually", "next")'),
)  # fmt: skip
_plant(
    27, "`next` and `weak_next`, `globally` and `eventually`, `until` and `release` are duals.",
    _TEMPORAL + "test_duals",
    "`weak_next` looks at all positions",
    (LANGUAGE + "traces.py", 'if formula.op in ("next", "weak_next")', 'if formula.op == "next"'),
)  # fmt: skip
_plant(
    27, "Every operator is its unfolding by one step.",
    _TEMPORAL + "test_unfolding",
    "`until` does not ask for its left side at the first position",
    (LANGUAGE + "traces.py", "kleene_and([at(right, i), *(at(left, j) for j in positions[:count])])",
     "kleene_and([at(right, i), *(at(left, j) for j in positions[1:count])])"),
)  # fmt: skip
_plant(
    28, "Equal languages have byte-equal automata.",
    _TRACES + "test_equal_languages_have_equal_bytes",
    "equivalent states are not merged",
    (COMPILER + "monitors/dfa.py", "block = _coarsest_partition(np.unique(table, axis=1), accepting)",
     "block = np.arange(len(table))"),
)  # fmt: skip
_plant(
    28, "Different automata have different languages.",
    _TRACES + "test_minimal_automata_are_minimal_and_canonical",
    "states are merged by acceptance alone",
    (COMPILER + "monitors/dfa.py", "block = _coarsest_partition(np.unique(table, axis=1), accepting)",
     "block = accepting.astype(np.int64)"),
)  # fmt: skip
_plant(
    29, "A prefix verdict is final exactly in a trap of the automaton.",
    _TRACES + "test_final_verdicts_are_the_traps",
    "nothing is ever final",
    (COMPILER + "monitors/dfa.py", "np.where(can_accept & can_reject, presumed, settled)",
     "np.where(can_accept | can_reject, presumed, settled)"),
)  # fmt: skip
_plant(
    29, "A final verdict never changes on a longer trace.",
    _TRACES + "test_final_verdicts_never_change",
    "a state that accepts is final",
    (COMPILER + "monitors/dfa.py", "np.where(can_accept & can_reject, presumed, settled)",
     "np.where(can_accept & can_reject & ~self.accepting, presumed, settled)"),
)  # fmt: skip
_plant(
    30, "Monitors of tokens and of texts agree, for tokenizers of every family.",
    "compiler/test_compiler_token_masks.py::test_token_and_text_monitors_agree",
    "a special token counts as the first word",
    (COMPILER + "monitors/token_masks.py", "at.is_first and (added is None or token in self._vocabulary.special)",
     "at.is_first and added is None"),
)  # fmt: skip
# ------------------------------------------------------------ compiler and tools
_plant(
    31, "Parsing what was printed gives the tree.",
    "constraintlang/test_language_round_trip.py::test_parse_of_print_is_the_statement",
    "no brackets on the right of a minus",
    (LANGUAGE + "printer.py", "_within(node.right, level + 1)", "_within(node.right, level)"),
)  # fmt: skip
_plant(
    31, "Printing twice is printing once.",
    "constraintlang/test_language_round_trip.py::test_print_is_idempotent",
    "an idle zero is written",
    (LANGUAGE + "printer.py", 'return text + ("%" if percent else "")',
     'return text + ("%" if percent else ".0" if len(text) == 1 and value.as_tuple()[2] == 0 else "")'),
)  # fmt: skip
_plant(
    31, "All comments are kept, in order.",
    "constraintlang/test_language_round_trip.py::test_comments_survive_in_order",
    "comments of one place are written from the last to the first",
    (LANGUAGE + "printer.py", "comment = self.comments.popleft()\n", "comment = self.comments.pop()\n"),
)  # fmt: skip
_plant(
    31, "The formatter reads its own output back before it gives it out.",
    "constraintlang/test_language_formatting.py::test_a_broken_printer_is_caught",
    "lost comments are not looked for",
    (LANGUAGE + "formatting.py", "if _comments(again.policy) != _comments(tree):", "if not formatted.text:"),
)  # fmt: skip
_plant(
    32, "No text crashes the checker, and every error has a code, a span inside the file and help.",
    "constraintlang/test_language_syntax.py::test_never_crashes_on_tokens",
    "a token ends one character late",
    (LANGUAGE + "tokens.py", "return Span(token.start_pos, token.end_pos)",
     "return Span(token.start_pos, token.end_pos + 1)"),
)  # fmt: skip
_plant(
    33, "What the checker lets pass has a value.",
    "constraintlang/test_language_soundness.py::test_33_what_is_validated_has_a_value",
    "a score may be compared with a mean",
    (LANGUAGE + "kinds.py", 'if len(levels) > 1:\n            report_mixed(self.report, parts, "comparison")',
     'if len(levels) > 2:\n            report_mixed(self.report, parts, "comparison")'),
)  # fmt: skip
_plant(
    34, "The same bytes under another hash seed, in another process and directory.",
    _IDENTITY + "test_34_another_process_writes_the_same_bytes",
    "attributes are written in the order of a set",
    (COMPILER + "lower.py", 'used = sorted({key.removesuffix("@base") for key in keys})',
     'used = list({key.removesuffix("@base") for key in keys})'),
)  # fmt: skip
_plant(
    34, "The same bytes for another order of the statements and another path.",
    _IDENTITY + "test_34_neither_order_nor_place_of_the_text_matters",
    "clauses are written in the order of the text",
    (COMPILER + "lower.py", "merged.sort(key=", "sorted(merged, key="),
)  # fmt: skip
_plant(
    35, "Compiled files are read back whole; unknown fields are rejected, by name.",
    _IDENTITY + "test_35_files_are_read_back_and_unknown_fields_rejected",
    "records accept unknown fields",
    (COMPILER + "ir_terms.py", "kw_only=True, forbid_unknown_fields=True):", "kw_only=True):"),
)  # fmt: skip
_plant(
    35, "Files of another minor version are read, those of another major version are not.",
    _IDENTITY + "test_35_files_are_read_back_and_unknown_fields_rejected",
    "only files of exactly this version are read",
    (COMPILER + "artifact.py", 'if major != VERSION.split(".")[0]:', "if version != VERSION:"),
)  # fmt: skip
_plant(
    36, "The normal form of the margins keeps truth values.",
    _MARGINS + "test_the_normal_form_means_the_same",
    "a negated `<` becomes `>`",
    (LANGUAGE + "normal_form.py", '{"<": ">="', '{"<": ">"'),
)  # fmt: skip
_plant(
    36, "Lowering keeps the verdicts of pointwise statements.",
    "compiler/test_compiler_lower.py::test_pointwise_statements_keep_their_meaning",
    "a negated comparison is turned round",
    (COMPILER + "operators.py", "OP_OF[normal_form.NEGATED[sign]]", "OP_OF[normal_form.TURNED[sign]]"),
)  # fmt: skip
_plant(
    36, "Lowering keeps the verdicts of demands on the distribution.",
    "compiler/test_compiler_laws.py::test_demands_keep_their_meaning",
    "a negated `and` stays an `and`",
    (COMPILER + "lower_conditions.py", "isinstance(formula, nodes.And) != negated", "isinstance(formula, nodes.And)"),
)  # fmt: skip
_plant(
    36, "Lowering keeps margins.",
    "compiler/test_compiler_meaning.py::test_lowering_keeps_margins",
    "a negated `and` stays an `and`",
    (COMPILER + "lower_terms.py", "isinstance(formula, nodes.And) != negated", "isinstance(formula, nodes.And)"),
)  # fmt: skip
_plant(
    37, "Other labels change the map, not the semantic hash.",
    _IDENTITY + "test_37_other_labels_change_the_map_only",
    "labels are hashed",
    (COMPILER + "canonical.py", 'NAMES = ("label", "text", "stratum")', 'NAMES = ("text", "stratum")'),
)  # fmt: skip
_plant(
    38, "A witness of satisfiability is accepted by the reference; random search refutes no `unsat`.",
    "compiler/test_compiler_decide.py::test_answers_against_the_reference_and_random_search",
    "what is to fail is asked to hold",
    (COMPILER + "analysis/decide.py", "sides.append(question.failing.fails)", "sides.append(question.failing.holds)"),
)  # fmt: skip
_plant(
    39, "Where `diff` says stricter, no sample satisfies the new statement and violates the old one.",
    "compiler/test_compiler_compare.py::test_implied_means_that_no_sample_satisfies_one_and_violates_the_other",
    "old and new are exchanged",
    (COMPILER + "analysis/compare.py", 'looser.append("accepts laws', 'stricter.append("accepts laws'),
)  # fmt: skip
_plant(
    39, "A gate that stays shut lets nothing through.",
    "compiler/test_compiler_compare.py::test_a_gate_that_stays_shut_lets_nothing_through",
    "a looser statement does not open the gate",
    (COMPILER + "analysis/compare.py", "opens = _binds(old) and bool(looser or undecided)",
     "opens = _binds(old) and bool(undecided)"),
)  # fmt: skip
_plant(
    40, "Safe fixes keep the semantic hash.",
    "compiler/test_compiler_fixing.py::test_safe_fixes_keep_the_semantic_hash",
    "for a needless bracket a `not` is written, and what the fix made is not looked at",
    (LANGUAGE + "style.py", "Edit(span_of(opening), _space(source.text, opening.start_pos, opening.end_pos))",
     'Edit(span_of(opening), " not ")'),
    (COMPILER + "fixing.py", "if front.lowered is not None and _meaning", "if front.lowered is None and _meaning"),
)  # fmt: skip
