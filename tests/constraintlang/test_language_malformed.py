"""Policies with the mistakes that people make: each file of ``malformed/``, and what would be too large for a file."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from policy_oracle import well_formed
from work_count import counted

from constraintc.main import main
from constraintlang import PolicyError, SourceFile, format_policy, parse
from constraintlang.layout import MAX_ERRORS
from constraintlang_compiler.front import check_and_lower
from constraintlang_compiler.sources import decode_source

FOLDER = Path(__file__).parent / "malformed"

# Code and underlined text of every error, in order.
EXPECTED = {
    "attribute_backend_colon": [("PC001", ":")],
    "attribute_backend_not_a_call": [("PC117", '"unitary/toxic-bert"')],
    "attribute_declared_twice": [("PC111", "rude")],
    "attribute_range_dots": [("PC001", "in 0..20")],
    "attribute_range_reversed": [("PC118", "20, 0")],
    "attribute_regex_backreference": [("PC122", 're"(\\w+) \\1"')],
    "attribute_regex_explodes": [("PC122", 're"((a{1,100}){1,100}){1,100}"')],
    "attribute_regex_in_plain_quotes": [("PC117", '"[0-9]{9}"')],
    "attribute_regex_lookahead": [("PC122", 're"(?=.*[0-9]).{8,}"')],
    "attribute_regex_unclosed": [("PC122", 're"[0-9{9}"')],
    "attribute_without_colon": [("PC001", "score")],
    "attribute_wrong_type": [("PC115", "float")],
    "brace_never_closed": [("PC002", "{")],
    "bracket_closes_nothing": [("PC003", ")")],
    "bracket_half_open_interval": [("PC003", ")")],
    "bracket_never_closed": [("PC002", "(")],
    "character_bidi": [("PC007", "\u202e")],
    "character_cyrillic": [("PC007", "о")],
    "character_no_break_space": [("PC007", "\xa0")],
    "character_null": [("PC007", "\x00")],
    "character_zero_width": [("PC007", "\u200b")],
    "clause_because_without_quotes": [("PC001", "counsel")],
    "clause_confidence_95": [("PC209", "95")],
    "clause_confidence_equals": [("PC004", "confidence=")],
    "clause_domain_double_equals": [("PC004", "==")],
    "clause_for_comma": [("PC001", ",")],
    "clause_for_set_with_equals": [("PC001", "={")],
    "clause_for_two_values": [("PC001", "domain=chat or toxigen")],
    "clause_for_without_key": [("PC001", "toxigen")],
    "clause_per_without_tag": [("PC005", "per")],
    "clause_priority_word": [("PC001", "high")],
    "clause_setting_misspelt": [("PC115", "temprature")],
    "clause_tolerance_5": [("PC209", "5")],
    "clause_tolerance_alone": [("PC001", "tolerance 5%")],
    "clause_twice": [("PC114", "for lang=en")],
    "clause_weight_on_require": [("PC224", "weight 2")],
    "comparison_between": [("PC001", "between 0.1 and 0.2")],
    "comparison_html_entity": [("PC007", "&lt;")],
    "comparison_in_words": [("PC001", "is")],
    "comparison_missing_left": [("PC001", "cap:")],
    "comparison_missing_right": [("PC005", "<")],
    "comparison_missing_sign": [("PC001", "toxicity 0.1")],
    "comparison_not_equal_sql": [("PC004", "<>")],
    "comparison_reversed_sign": [("PC004", "=<")],
    "comparison_single_equals": [("PC004", "=")],
    "comparison_triple_equals": [("PC004", "===")],
    "comparison_two_directions": [("PC004", "toxicity > 0.1 < 0.2")],
    "comparison_unicode_sign": [("PC006", "≤")],
    "comparison_yaml": [("PC001", "toxicity:")],
    "condition_and_colon": [("PC001", ":")],
    "condition_arrow": [("PC006", "->")],
    "condition_bang": [("PC006", "!")],
    "condition_comma": [("PC001", ",")],
    "condition_double_ampersand": [("PC006", "&&")],
    "condition_double_pipe": [("PC006", "||")],
    "condition_if_colon": [("PC001", "if")],
    "condition_if_then": [("PC001", "if")],
    "condition_trailing_and": [("PC005", "and")],
    "condition_unless": [("PC001", "unless")],
    "condition_upper_case_word": [("PC001", "AND")],
    "condition_where": [("PC001", "where")],
    "domain_empty": [("PC001", "{ }")],
    "domain_empty_set": [("PC001", "{}")],
    "domain_missing_comma": [("PC001", "en de")],
    "domain_misspelt": [("PC102", "toxogen")],
    "domain_trailing_comma": [("PC001", ",")],
    "edition_late": [("PC110", "edition 1")],
    "edition_unknown": [("PC113", "edition 2")],
    "edition_version": [("PC001", "version")],
    "edition_word": [("PC001", "one")],
    "import_climbs": [("PC119", 'import "../../secret.policy" as secret')],
    "import_python": [("PC001", "from")],
    "import_without_quotes": [("PC001", "safety")],
    "kind_divide_by_zero": [("PC223", "1 / 0")],
    "kind_equal_score": [("PC202", "toxicity == 0.5")],
    "kind_flag_compared": [("PC221", "slur")],
    "kind_mixed_readings": [("PC201", "toxicity < 0.1")],
    "kind_no_attribute": [("PC226", "0.1 < 0.2")],
    "kind_number_alone": [("PC220", "toxicity")],
    "kind_perplexity_required": [("PC225", "perplexity")],
    "kind_third": [("PC223", "1 / 3")],
    "kind_units": [("PC205", "0.5 * toxicity")],
    "layout_after_brace": [("PC001", "words")],
    "layout_carriage_returns_only": [("PC007", "\r")],
    "layout_comment_block": [("PC007", "/*")],
    "layout_comment_slashes": [("PC007", "//")],
    "layout_conflict_marker": [("PC007", "<<<<<<<"), ("PC007", "======="), ("PC007", ">>>>>>>")],
    "layout_crlf_and_tabs": [("PC004", "=<")],
    "layout_declaration_in_group": [("PC110", "let cap = 0.1")],
    "layout_json": [("PC001", "{"), ("PC001", '"toxicity"')],
    "layout_markdown_fence": [("PC007", "```"), ("PC007", "```")],
    "layout_prose": [("PC001", "The model must")],
    "layout_second_byte_order_mark": [("PC007", "\ufeff")],
    "layout_semicolons": [("PC007", ";"), ("PC007", ";")],
    "layout_two_on_a_line": [("PC001", "0.1 words")],
    "name_capital": [("PC101", "Toxicity")],
    "name_label_in_quotes": [("PC001", '"cap"')],
    "name_label_twice": [("PC109", "cap")],
    "name_label_with_space": [("PC001", "no slurs")],
    "name_let_colon": [("PC001", ":")],
    "name_let_cycle": [("PC105", "let low = high / 2")],
    "name_let_without_value": [("PC001", "cap")],
    "name_of_statistic": [("PC112", "mean")],
    "name_other_model": [("PC115", "toxicity@reference")],
    "name_reserved_attribute": [("PC009", "next"), ("PC005", "next")],
    "name_reserved_word": [("PC009", "test"), ("PC009", "test")],
    "name_tag_value_misspelt": [("PC102", "eng")],
    "name_unknown_attribute": [("PC101", "toxcity")],
    "name_unknown_flag": [("PC101", "swearing")],
    "name_with_hyphen": [("PC001", "self-harm")],
    "number_decimal_comma": [("PC007", "0,1")],
    "number_exponent": [("PC010", "1e-200")],
    "number_leading_point": [("PC007", ".1")],
    "number_percent_before": [("PC007", "%5")],
    "number_percent_in_words": [("PC001", "5 percent")],
    "number_percent_with_space": [("PC007", "5 %")],
    "number_thousands": [("PC007", "1,000")],
    "number_underscore": [("PC007", "1_000")],
    "operator_negated": [("PC006", "!<"), ("PC006", "! ="), ("PC006", "!>")],
    "statistic_always": [("PC224", "always mean(toxicity) < 0.1")],
    "statistic_chance_of_number": [("PC208", "toxicity")],
    "statistic_expectation": [("PC001", "E[")],
    "statistic_level_95": [("PC209", "95")],
    "statistic_lower_case_p": [("PC116", "p")],
    "statistic_mean_of_condition": [("PC208", "toxicity > 0.5")],
    "statistic_of_statistic": [("PC207", "mean(toxicity)")],
    "statistic_two_arguments": [("PC227", "mean(toxicity, words)")],
    "statistic_unknown": [("PC116", "average")],
    "statistic_without_brackets": [("PC001", "mean toxicity")],
    "temporal_bound_explodes": [("PC305", "over sentences (eventually[0, 100000] refusal)")],
    "temporal_bound_one_number": [("PC001", "[3]")],
    "temporal_bound_reversed": [("PC209", "eventually[3, 1] refusal")],
    "temporal_level_missing": [("PC001", "(")],
    "temporal_without_over": [("PC230", "eventually refusal"), ("PC203", "refusal")],
    "test_unknown_label": [("PC703", "cup")],
    "test_unknown_outcome": [("PC703", "reject")],
    "test_without_quotes": [("PC001", "strict")],
    "text_curly_quotes": [("PC007", "“")],
    "text_never_closed": [("PC008", '"counsel asked')],
    "text_single_quotes": [("PC007", "'")],
    "text_unknown_escape": [("PC013", "\\p")],
    "three_mistakes": [("PC101", "toxicty"), ("PC004", "=<"), ("PC209", "0")],
}


def _png():
    return b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + random.Random(7).randbytes(2000)


# Name, content, code and underlined text.
GENERATED = {
    "brackets_10000_deep": ("(" * 10_000 + "a" + ")" * 10_000, "PC010", "("),
    "brackets_10000_deep_unclosed": ("(" * 10_000, "PC010", "("),
    "not_10000_times": ("not " * 10_000 + "toxicity < 0.1", "PC010", None),
    "minus_10000_times": ("-" * 10_000 + "toxicity < 0.1", "PC010", None),
    "next_10000_times": ("over tokens (" + "next " * 10_000 + "last)", "PC010", None),
    "groups_10000_deep": ("group g {\n" * 10_000, "PC010", "{"),
    "sum_of_10000": ("+".join(["toxicity"] * 10_000) + " < 1", "PC010", None),
    "line_too_long": ("toxicity < 0.1 # " + "x" * 100_000, "PC010", "t"),
    "file_too_large": (b"# the rules\n" * 400_000, "PC010", ""),
    "name_too_long": ("x" * 5_000 + " < 1", "PC010", None),
    "number_too_long": ("toxicity < 0." + "1" * 200, "PC010", None),
    "number_hidden_in_an_exponent": ("toxicity < 1e999999999999", "PC010", "1e999999999999"),
    "constants_that_grow": (
        "let a0 = 99999\n" + "".join(f"let a{i} = a{i - 1} * a{i - 1}\n" for i in range(1, 99)) + "toxicity < a98",
        "PC223",
        "a4 * a4",
    ),
    "constants_in_a_circle_of_3000": (
        "".join(f"let a{i} = a{(i + 1) % 3000}\n" for i in range(3000)) + "toxicity < a0", "PC105", "let a0 = a1",
    ),
    "commas_without_end": ("f(" + "," * 50_000 + ") < 1", "PC001", ","),
    "brackets_that_never_match": ("(]" * 40_000, "PC003", "]"),
    "closing_brackets_only": (")" * 2_000, "PC003", ")"),
    "quotes_only": ('"' * 9_999, "PC001", '""'),
    "a_picture": (_png(), "PC007", None),
    "random_bytes": (random.Random(8).randbytes(50_000), "PC007", None),
    "utf_16": ("toxicity < 0.1\n".encode("utf-16"), "PC007", None),
    "latin_1": ('toxicity < 0.1 because "café"'.encode("latin-1"), "PC007", None),
    "truncated_utf_8": ('toxicity < 0.1 because "é'.encode()[:-1], "PC007", None),
    "null_bytes": (b"\x00" * 3_000, "PC007", "\x00"),
    "newlines_in_a_bracket": ("(" + "\n" * 300_000, "PC002", "("),
    "newlines_and_spaces": (" \n" * 500_000 + "toxicity <", "PC005", "<"),
    "brackets_and_newlines": ("(\n" * 190 + "\n" * 100_000, "PC002", "("),
    "comments_in_a_bracket": ("(" + "# x\n" * 20_000, "PC002", "("),
    "labels_all_equal": ("cap: words < 9\n" * 3_000, "PC109", "cap"),
    "names_all_wrong": ("".join(f"n{i} < 1\n" for i in range(3_000)), "PC101", "n0"),
    "values_all_wrong": (
        f"tag t in {{{', '.join(f'v{i}' for i in range(5_000))}}}\n"
        + "".join(f"words < 9 for t=w{i}\n" for i in range(1_100)), "PC102", "w0",
    ),
    "fields_all_wrong": ("attribute a: flag {" + "\n".join(f"b{i} = c" for i in range(2_000)) + "}", "PC115", "b0"),
    "tests_all_wrong": ('test "t" {\n' + "".join(f"pass on c{i}\n" for i in range(3_000)) + "}", "PC703", "c0"),
    "tests_of_everything": (
        "edition 1\n" + "".join(f"s{i}: words < {i + 2}\n" for i in range(400))
        + "".join(f'test "t{i}" {{\n given words = 1\n pass\n}}\n' for i in range(400)), "PC010", "pass",
    ),
    "tests_of_a_long_statement": (
        "edition 1\nlong: words < 1" + "".join(f"\n  and words < {i}" for i in range(2, 3_002))
        + "\n" + "".join(f'test "t{i}" {{\n given words = 0\n pass on long\n}}\n' for i in range(60)),
        "PC010", "pass on long",
    ),
    "strata_of_two_tags": (
        "".join(f"tag {t} in {{{', '.join(f'v{i}' for i in range(3_000))}}}\n" for t in "tu")
        + "mean(toxicity) < 0.5 per t, u", "PC010", "mean(toxicity) < 0.5 per t, u",
    ),
    "a_name_of_20000_parts": ("a" + ".b" * 20_000 + " < 1", "PC101", None),
    "a_sum_of_190_large_numbers": ("toxicity < " + "*".join(["9e99"] * 190), "PC010", None),
    "half_a_surrogate_pair": ("toxicity < 0.1 # \ud800", "PC007", "\ud800"),
}  # fmt: skip


def findings(content):
    """The source of a file and all errors of it, as ``constraintc check`` has them."""
    try:
        source = (
            SourceFile(content) if isinstance(content, str) else decode_source(content, "x.policy", FOLDER)
        )
        return source, [d for d in check_and_lower(source).diagnostics if d.is_error]
    except PolicyError as error:
        return error.source, list(error.diagnostics)


def test_the_table_and_the_folder_name_the_same_files():
    assert {path.stem for path in FOLDER.glob("*.policy")} == set(EXPECTED)
    assert len(EXPECTED) >= 60


MAX_CALLS = 12_000_000
"""About three times those of `values_all_wrong`; seconds are in benchmarks/language/README.md."""


@pytest.mark.parametrize("name", EXPECTED)
def test_malformed_file(name, capsys):
    path = FOLDER / f"{name}.policy"
    source, errors = findings(path.read_bytes())
    found = [(d.code, source.extract(d.span)) for d in errors]
    assert found == EXPECTED[name], found
    for diagnostic in errors:
        well_formed(diagnostic, source)
        assert diagnostic.help
    with counted(at_most=MAX_CALLS):
        assert main(["check", str(path)]) == 3
    shown = capsys.readouterr()
    assert "Traceback" not in shown.out + shown.err
    assert all(f"[{d.code}]" in shown.out for d in errors)


def written(name, folder):
    """The file of a generated text."""
    content, path = GENERATED[name][0], folder / f"{name}.policy"
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "replace"))
    return str(path)


@pytest.mark.parametrize("name", GENERATED)
def test_malformed_without_a_file(name):
    """The command reads the same contents in `test_every_check_ends_in_500_megabytes`."""
    content, code, underlined = GENERATED[name]
    with counted(at_most=MAX_CALLS):
        source, errors = findings(content)
        for diagnostic in errors:
            diagnostic.render(source)
    assert errors[0].code == code
    assert underlined is None or source.extract(errors[0].span) == underlined
    for diagnostic in errors[:50]:
        well_formed(diagnostic, source)
    tree, _ = parse(source)
    format_policy(tree)


def test_the_number_of_tokens_is_limited(monkeypatch):
    for module in ("limits", "parser"):
        monkeypatch.setattr(f"constraintlang.{module}.MAX_TOKENS", 300)
    assert findings("words < 9\n" * 75)[1] == []
    for text in ("words < 9\n" * 76, "# why\n" + "words < 9\n" * 75, "words < 9  # why\n" * 75):
        _, errors = findings(text)
        expected = [("PC010", "the file has more than 300 words and signs")]
        assert [(d.code, d.message) for d in errors] == expected, text[:20]


def test_after_a_thousand_errors_the_list_ends():
    _, errors = findings("toxicity =< 1\n" * 5_000)
    assert len(errors) == MAX_ERRORS + 1
    assert "more than 1000 errors" in errors[-1].message
    for text in (
        "cap: words < 9\n" * 3_000,
        "attribute a: flag {" + "\n".join(f"b{i} = c" for i in range(2_000)) + "}",
    ):
        _, errors = findings(text)
        assert len(errors) == MAX_ERRORS + 1
        assert sum("more than 1000 errors" in d.message for d in errors) == 1
    source = SourceFile('words < 9 because "' + "\u200b" * 5_000 + '"')
    warnings = [d for d in check_and_lower(source).diagnostics if d.code == "PC106"]
    assert len(warnings) == MAX_ERRORS + 1
    assert "there are more" in warnings[-1].message


def test_what_is_written_beside_a_mistake_is_still_checked():
    source, errors = findings((FOLDER / "three_mistakes.policy").read_bytes())
    assert [source.position(d.span.start)[0] for d in errors] == [2, 3, 4]


def test_one_unreadable_file_among_others(tmp_path, capsys):
    (tmp_path / "a.policy").write_bytes(b"words < 9 \xff")
    (tmp_path / "b.policy").write_text("words =< 9")
    assert main(["check", "--format", "json", str(tmp_path / "a.policy"), str(tmp_path / "b.policy")]) == 3
    found = [(entry["code"], entry["line"], entry["column"]) for entry in json.loads(capsys.readouterr().out)]
    assert found == [("PC007", 1, 11), ("PC004", 1, 7)]


# ---------------------------------------------------------------- the command, under limits of the system
PROGRAM = """
import contextlib, io, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (500 * 1024**2, 500 * 1024**2))
from constraintc.main import main
for path in sys.argv[1:]:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        code = main(["check", path])
    if code != 3 or "Traceback" in out.getvalue() or "error[PC" not in out.getvalue():
        print(path, code, out.getvalue()[-300:])
"""


def test_every_check_ends_in_500_megabytes(tmp_path):
    paths = [str(FOLDER / f"{name}.policy") for name in EXPECTED]
    # No file holds half a pair: its bytes are not UTF-8.
    paths += [written(name, tmp_path) for name in GENERATED if name != "half_a_surrogate_pair"]
    done = subprocess.run([sys.executable, "-c", PROGRAM, *paths], capture_output=True, text=True)
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
