"""What an import brings, where it may lead, and how its mistakes are told."""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from constraintlang import CheckResult, SourceFile, check_source, format_policy
from constraintlang.places import Place, find_place
from constraintlang_policies.library import FOLDER

TEAM = """edition 1
let cap = 0.2
let half = cap / 2
attribute harm: score in [0, cap * 5] lower_is_better
attribute slurs: count { backend = lexicon("lists/slurs.txt") }
attribute shouting: flag { backend = regex(re"!!") }
attribute grade: real in [0, 20] { backend = python("acme:grade") }
domain support { source = jsonl("support.jsonl"), tags = {product} }
tag lang in {en, de}
own: harm < cap
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "policies").mkdir()
    write(tmp_path / "policies", "team.policy", TEAM)
    return tmp_path / "policies"


def write(folder: Path, name: str, text: str) -> None:
    place = folder / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text, encoding="utf-8")


def check(folder: Path, text: str, *, name: str = "my.policy", allow_path: bool = False) -> CheckResult:
    write(folder, name, text)
    return check_source(SourceFile(text, name, (folder / name).parent), allow_path=allow_path)


def problems(result: CheckResult) -> list[tuple[str, str, str]]:
    """(code, file, underlined text) of errors and warnings."""
    return [
        (d.code, (d.source or result.source).name, (d.source or result.source).extract(d.span))
        for d in result.diagnostics
        if d.severity != "note"
    ]


# ------------------------------------------------------------------ what is brought
def test_names_are_qualified(folder: Path) -> None:
    result = check(
        folder,
        'edition 1\nimport "team.policy" as t\nlet strict = t.half / 2\n'
        "attribute mood: score in [0, t.cap * 5]\n"
        "a: t.harm < strict and t.slurs == 0 and not t.shouting\n"
        "b: P(t.harm > t.cap) < 1% for domain=support and lang=en\n"
        "c: prefer mean(t.harm) < t.half weight t.cap\n"
        "d: mood < 1\n"
        'test "stub" {\n  given t.harm = 0.01\n  pass "x" on a\n}\n',
    )
    policy = result.require()
    assert problems(result) == []
    assert list(policy.attributes) == ["mood", "t.harm", "t.shouting", "t.slurs"]
    assert policy.attributes["t.harm"].high == 1
    assert policy.attributes["t.slurs"].source is not None
    assert policy.attributes["t.slurs"].source.name == "team.policy"
    assert [s.text.split(" for")[0] for s in policy.statements] == [
        "t.harm < 0.05 and t.slurs == 0 and not t.shouting",
        "P(t.harm > 0.2) < 1%",
        "prefer mean(t.harm) < 0.1 weight 0.2",
        "mood < 1",
    ]
    assert policy.statements[2].weight == Decimal("0.2")
    assert policy.attributes["mood"].high == 1


def test_imports_may_stand_behind_their_use(folder: Path) -> None:
    assert check(folder, 'edition 1\nt.harm < t.cap\nimport "team.policy" as t\n').errors == ()


def test_the_alias_is_the_name_of_the_file(folder: Path) -> None:
    assert check(folder, 'import "team.policy"\nteam.harm < team.cap').errors == ()
    write(folder, "my-team.policy", TEAM)
    result = check(folder, 'edition 1\nimport "my-team.policy"\nimport "my-team.policy" as t\nt.harm < 1')
    assert problems(result) == [("PC112", "my.policy", 'import "my-team.policy"')]


def test_statements_are_not_brought(folder: Path) -> None:
    policy = check(folder, 'import "team.policy" as t\nwords < 9').require()
    assert [s.text for s in policy.statements] == ["words < 9"]
    assert list(policy.attributes) == ["words"]


def test_domains_and_tags_are_names_of_the_data(folder: Path) -> None:
    text = 'edition 1\nimport "team.policy" as t\n'
    assert check(folder, text + "words < 9 for domain=support and product=x").errors == ()
    assert problems(check(folder, text + "words < 9 for domain=suport")) == [("PC102", "my.policy", "suport")]
    assert problems(check(folder, text + "words < 9 for lang=fr")) == [("PC102", "my.policy", "fr")]
    assert check(folder, text + "tag lang in {en, fr}\nwords < 9 for lang in {de, fr}").errors == ()
    assert check(folder, "edition 1\ntag lang in {fr}\n" + text[10:] + "words < 9 for lang=de").errors == ()


def test_no_place_of_an_imported_file_is_shown_in_this_one(folder: Path) -> None:
    text = 'edition 1\nimport "team.policy" as t\n'
    (unknown,) = check(folder, text + "words < 9 for lang=fr").errors
    assert unknown.labels == ()
    (merged,) = check(folder, text + "tag lang in {fr}\nwords < 9 for lang=xx").errors
    assert merged.labels == ()
    (upward,) = (d for d in check(folder, text + "mean(t.harm) > 0.1").diagnostics if d.code == "PC405")
    assert upward.labels == ()


def test_what_a_file_imports_is_not_passed_on(folder: Path) -> None:
    write(folder, "upper.policy", 'edition 1\nimport "team.policy" as t\nlet cap = t.cap\n')
    result = check(folder, 'edition 1\nimport "upper.policy" as u\nwords < 9 * u.cap\nu.t.harm < 1')
    assert problems(result) == [("PC101", "my.policy", "u.t.harm")]
    assert "not passed on" in (result.errors[0].help or "")


def test_the_prelude_is_not_qualified(folder: Path) -> None:
    result = check(folder, 'import "team.policy" as t\nt.toxicity < 1')
    assert problems(result) == [("PC101", "my.policy", "t.toxicity")]
    assert result.errors[0].help == "write `toxicity`"


def test_an_imported_name_does_not_touch_the_prelude(folder: Path) -> None:
    write(folder, "own.policy", "attribute toxicity: real in [0, 100]\n")
    policy = check(folder, 'edition 1\nimport "own.policy" as o\ntoxicity < 0.1\no.toxicity < 50').require()
    assert policy.attributes["toxicity"].from_prelude
    assert policy.attributes["toxicity"].high == 1
    assert policy.attributes["o.toxicity"].high == 100


def test_units_of_imported_reals_are_their_own(folder: Path) -> None:
    result = check(
        folder,
        'edition 1\nimport "team.policy" as t\nattribute grade: real in [0, 20]\nt.grade < grade',
    )
    assert problems(result) == [("PC205", "my.policy", "grade")]


def test_a_direction_is_brought(folder: Path) -> None:
    result = check(folder, 'import "team.policy" as t\nmean(t.harm) > 0.1')
    assert problems(result) == [("PC405", "my.policy", "mean(t.harm) > 0.1")]


def test_the_standard_library_needs_no_folder() -> None:
    text = 'import "std/safety.policy" as safety\nP(safety.self_harm > 0.5) < 0.1%'
    assert check_source(text).require().attributes["safety.self_harm"].backend is not None


def test_a_standard_policy_can_be_imported_by_one_below_it(folder: Path) -> None:
    write(folder, "a.policy", 'import "std/no_pii.policy" as pii\nlet zero = 0\n')
    assert check(folder, 'import "a.policy" as a\nwords > a.zero').errors == ()


def test_a_folder_named_std_is_reached_with_a_dot(folder: Path) -> None:
    write(folder, "std/safety.policy", "let mine = 1\n")
    assert check(folder, 'import "./std/safety.policy" as s\nwords < s.mine').errors == ()
    assert problems(check(folder, 'import "std/safety.policy" as s\nwords < s.mine')) == [
        ("PC101", "my.policy", "s.mine")
    ]


def test_qualified_declarations_stand_for_an_import(folder: Path) -> None:
    assert check(folder, "attribute t.harm: score\nt.harm < 1").errors == ()
    result = check(folder, 'edition 1\nimport "team.policy" as t\nattribute t.harm: score\nt.harm < 1')
    assert problems(result) == [("PC111", "my.policy", "t.harm")]


def test_printing_keeps_imports_and_qualified_names() -> None:
    text = 'import "std/safety.policy" as s\nattribute a.b: flag\nnot a.b\ntest "t" {\n  given a.b = 1\n}\n'
    assert format_policy(check_source(text).tree) == text


# ------------------------------------------------------------------ mistakes
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('import "nothing.policy" as t\nt.x < 1', [("PC107", 'import "nothing.policy" as t')]),
        ('import "team.txt" as t\nt.x < 1', [("PC107", 'import "team.txt" as t')]),
        (r'import "..\\team.policy" as t', [("PC107", r'import "..\\team.policy" as t')]),
        ('import "tea\\u0000m.policy" as t', [("PC107", 'import "tea\\u0000m.policy" as t')]),
        ('import ".policy" as t', [("PC107", 'import ".policy" as t')]),
        ('import "std/../team.policy" as t', [("PC107", 'import "std/../team.policy" as t')]),
        ('import "std/prelude.policy" as t', [("PC107", 'import "std/prelude.policy" as t')]),
        ('import "folder.policy" as t', [("PC107", 'import "folder.policy" as t')]),
        ('import "latin.policy" as t', [("PC107", 'import "latin.policy" as t')]),
        ('import "../other.policy" as t', [("PC119", 'import "../other.policy" as t')]),
        ('import "link.policy" as t', [("PC119", 'import "link.policy" as t')]),
        ('import "team.policy" as mean', []),
        ('import "team.policy" as t\nimport "team.policy" as t', [("PC111", 'import "team.policy" as t')]),
        ('import "team.policy" as t\nlet t = 1', [("PC111", "t")]),
        ('group g {\n  import "team.policy" as t\n}', [("PC110", 'import "team.policy" as t')]),
        ('import "team.policy" as t\nt.ham < 1', [("PC101", "t.ham")]),
        ('import "team.policy" as t\nx.harm < 1', [("PC101", "x.harm")]),
        ('import "team.policy" as t\nt.harm < t.cup', [("PC101", "t.cup")]),
        ('import "team.policy" as t\nlet a = t.harm', [("PC222", "t.harm")]),
    ],
)
def test_code_and_underlined_text(folder: Path, text: str, expected: list[tuple[str, str]]) -> None:
    write(folder, "../other.policy", TEAM)
    (folder / "link.policy").symlink_to(folder.parent / "other.policy")
    (folder / "folder.policy").mkdir()
    (folder / "latin.policy").write_bytes(b"# caf\xe9\n")
    result = check(folder, text)
    assert [(code, under) for code, _, under in problems(result)] == expected
    assert all(d.help for d in result.errors)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('import "std/no_pii.policy" as pii\nwords < 9', ['import "std/no_pii.policy" as pii']),
        ('import "std/no_pii.policy" as pii\nalways not pii.card', []),
        ('import "std/no_pii.policy" as pii\nlet a = words\nalways not pii.card', None),
        ('import "std/refusals.policy" as style\nlet most = 2 * style.max_words\nwords < most', []),
        ('import "team.policy"\nwords < 9', []),  # its domain and tag apply by themselves
        ('import "team.policy"\nimport "std/no_pii.policy" as pii', ['import "std/no_pii.policy" as pii']),
        ("", [""]),
        ("# to be written\n", [""]),
        ("edition 1\n", [""]),
        ("group g { words < 3 }", []),
        ("group g {\n}", [""]),
        ("let cap = 0.1", []),
        ("attribute a: score", []),
    ],
)
def test_what_demands_nothing(folder: Path, text: str, expected: list[str] | None) -> None:
    """PC412; nothing of it beside errors, among which the use of the import may be lost."""
    found = [underlined for code, _, underlined in problems(check(folder, text)) if code == "PC412"]
    assert found == (expected or [])


def test_the_help_for_an_unused_import_is_a_policy(folder: Path) -> None:
    text = 'edition 1\nimport "std/no_pii.policy" as pii\n'
    (found,) = check(folder, text).diagnostics
    assert "`constraintc init --from std/no_pii`" in (found.help or "")
    demand = (found.help or "").split("`")[1]
    assert check(folder, text + demand).diagnostics == ()


def test_helps_name_what_is_near(folder: Path) -> None:
    def help(text: str) -> str | None:
        return check(folder, text).errors[0].help

    assert help('import "taem.policy" as t') == "beside it stands `team.policy`"
    assert "std/safety.policy" in (help('import "std/safty.policy" as t') or "")
    assert help('import "team.policy" as t\nt.ham < 1') == "write `t.harm`"
    assert 'import "abc.policy" as abc' in (help("abc.something < 1") or "")


def test_a_folder_is_told_as_such(folder: Path) -> None:
    (folder / "d.policy").mkdir()
    (error,) = check(folder, 'import "d.policy" as d\nwords < d.x').errors
    assert error.message == "`d.policy` is a folder, not a policy file"


def test_absolute_paths_need_the_flag(folder: Path) -> None:
    write(folder, "../other.policy", TEAM)
    for path in ("../other.policy", (folder.parent / "other.policy").as_posix()):
        text = f'import "{path}" as t\nt.harm < 1'
        assert [code for code, _, _ in problems(check(folder, text))] == ["PC119"]
        assert problems(check(folder, text, allow_path=True)) == []


def test_every_file_is_held_to_its_own_folder(folder: Path) -> None:
    write(folder, "lib/inner.policy", 'import "../team.policy" as t\nlet x = t.cap\n')
    result = check(folder, 'import "lib/inner.policy" as i\nwords < i.x')
    assert problems(result) == [("PC119", "lib/inner.policy", 'import "../team.policy" as t')]
    assert check(folder, 'import "lib/inner.policy" as i\nwords < i.x', allow_path=True).errors == ()


def test_a_circle(folder: Path) -> None:
    write(folder, "a.policy", 'import "b.policy" as b\nlet x = b.y\n')
    write(folder, "b.policy", 'import "a.policy" as a\nlet y = a.x\n')
    result = check(folder, 'import "a.policy" as a\nwords < a.x')
    assert problems(result) == [("PC103", "b.policy", 'import "a.policy" as a')]
    assert "`a.policy` -> `b.policy` -> `a.policy`" in result.errors[0].message
    result = check(folder, 'import "./lib/../my.policy" as my\nwords < my.x')
    (folder / "lib").mkdir()
    result = check(folder, 'import "./lib/../my.policy" as my\nwords < my.x')
    assert problems(result) == [("PC103", "my.policy", 'import "./lib/../my.policy" as my')]


def test_findings_carry_their_file(folder: Path) -> None:
    write(folder, "lib/bad.policy", "edition 7\nlet x = 1 /\nattribute a: scre\nlet y = z\nwords < \n")
    result = check(
        folder, '\nimport "lib/bad.policy" as bad\nwords < bad.x and bad.a < bad.y', name="p.policy"
    )
    assert {(code, file) for code, file, _ in problems(result)} == {
        ("PC113", "lib/bad.policy"),
        ("PC005", "lib/bad.policy"),
        ("PC115", "lib/bad.policy"),
        ("PC222", "lib/bad.policy"),
    }
    error = next(d for d in result.errors if d.code == "PC115")
    assert error.to_json(result.source)["file"] == "lib/bad.policy"
    assert error.to_json(result.source)["line"] == 3
    shown = error.render(result.source)
    assert " --> lib/bad.policy:3:14" in shown
    assert "3 | attribute a: scre" in shown
    assert "note: imported by `p.policy`, line 2" in shown


def test_warnings_of_imported_files_are_shown(folder: Path) -> None:
    write(folder, "w.policy", 'let x = 1\nwords < 1 because "a\u202eb"\nwords < 2\n')
    result = check(folder, 'import "w.policy" as w\nwords < w.x')
    assert [(code, file) for code, file, _ in problems(result)] == [
        ("PC104", "w.policy"),
        ("PC106", "w.policy"),
    ]
    assert result.policy is not None


def test_a_file_is_read_once(folder: Path) -> None:
    write(folder, "bad.policy", "let x = 1 / 0\nlet y = 1\n")
    for name in ("a", "b"):
        write(folder, f"{name}.policy", 'import "bad.policy" as bad\nlet z = bad.y\n')
    result = check(
        folder,
        'edition 1\nimport "a.policy" as a\nimport "b.policy" as b\nimport "bad.policy" as bad\n'
        "words < a.z + b.z + bad.y\nwords < bad.x",
    )
    assert problems(result) == [("PC223", "bad.policy", "1 / 0")]


def test_limits(folder: Path) -> None:
    for index in range(21):
        write(folder, f"f{index}.policy", f'import "f{index + 1}.policy" as f\nlet x = f.x\n')
    write(folder, "f21.policy", "let x = 1\n")
    assert problems(check(folder, 'import "f2.policy" as f\nwords < f.x')) == []
    result = check(folder, 'import "f1.policy" as f\nwords < f.x')
    assert problems(result) == [("PC010", "f20.policy", 'import "f21.policy" as f')]
    for index in range(101):
        write(folder, f"g{index}.policy", "let x = 1\n")
    lines = [f'import "g{index}.policy"' for index in range(101)]
    assert not check(folder, "\n".join([*lines[:100], "words < g0.x"])).errors
    result = check(folder, "\n".join([*lines, "words < g100.x"]))
    assert problems(result) == [("PC010", "my.policy", 'import "g100.policy"')]
    write(folder, "large.policy", "#" * 99_999 + "\n" + ("# " + "x" * 90_000 + "\n") * 40)
    write(folder, "also.policy", "let y = 1\n" + ("# " + "x" * 90_000 + "\n") * 40)
    result = check(folder, 'import "large.policy" as l\nimport "also.policy" as a\nwords < a.y')
    assert problems(result) == [("PC010", "my.policy", 'import "also.policy" as a')]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_only_ordinary_files_are_read(folder: Path) -> None:
    os.mkfifo(folder / "pipe.policy")
    assert [code for code, _, _ in problems(check(folder, 'import "pipe.policy" as p'))] == ["PC107"]


paths = st.lists(
    st.sampled_from(["..", ".", "/", "std", "lib", "a.policy", "x" * 300, "~", "C:", "", "\0", "é", "*"])
    | st.text(max_size=4),
    max_size=6,
).map("/".join)


@settings(max_examples=200, deadline=None)
@given(paths)
def test_no_path_escapes(written: str) -> None:
    source = SourceFile("", "my.policy", FOLDER / "std" / "lists")
    found = find_place(written + ".policy", source, allow_path=False)
    if isinstance(found, Place):
        assert found.path.resolve().is_relative_to((FOLDER / "std").resolve())


def test_a_path_that_leads_somewhere_is_found() -> None:
    """The property above is not empty."""
    source = SourceFile("", "my.policy", FOLDER)
    found = find_place("std/../std/no_pii.policy", source, allow_path=False)
    assert not isinstance(found, Place)
    found = find_place("./std/../std/no_pii.policy", source, allow_path=False)
    assert isinstance(found, Place)
    assert found.name == "std/no_pii.policy"
