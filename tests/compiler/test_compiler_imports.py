"""Imports below the checker: one hash wherever files lie, text without imports, a directory that stands alone."""

from __future__ import annotations

import json
import shutil
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from constraintlang import PolicyError, check_source
from constraintlang.diagnostics import Diagnostic
from constraintlang.semantics import evaluate
from constraintlang.source import SourceFile
from constraintlang_compiler.artifact import CompiledPolicy
from constraintlang_compiler.canonical import canonical_bytes
from constraintlang_compiler.checkers import statistics
from constraintlang_compiler.emit import canonical_policy
from constraintlang_compiler.errors import ArtifactError
from constraintlang_compiler.front import check_and_lower
from constraintlang_compiler.pipeline import compile_path, compile_source
from constraintlang_compiler.sources import read_source
from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.scorers.binding import bind_scorers

TEAM = """edition 1
let cap = 0.2
attribute harm: score in [0, 1] lower_is_better
attribute slurs: count { backend = lexicon("lists/slurs.txt") }
attribute insults: count { backend = lexicon("std/lists/insults.txt") }
"""
POLICY = """edition 1
import "{team}" as team
cap: team.harm < team.cap
clean: always team.slurs == 0 and team.insults <= 1
rare: P(team.harm > 0.5) < 1%
"""


def write(place: Path, text: str) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text, encoding="utf-8")
    return place


def layout(root: Path, team: str) -> Path:
    """A policy that imports ``team``, with the word list beside that."""
    write(root / team, TEAM)
    write((root / team).parent / "lists" / "slurs.txt", "grr\n")
    return write(root / "my.policy", POLICY.format(team=team))


def codes(path: Path, *, allow_path: bool = False) -> list[tuple[str, str]]:
    found = check_and_lower(read_source(path), allow_path=allow_path).diagnostics
    return [(d.code, d.severity) for d in found if d.severity != "note"]


def test_the_hash_does_not_depend_on_where_files_lie(tmp_path: Path) -> None:
    near = compile_path(layout(tmp_path / "a", "team.policy"))
    far = compile_path(layout(tmp_path / "b" / "deep", "lib/of/ours/team.policy"))
    assert near.semantic_hash == far.semantic_hash
    assert canonical_bytes(near.ir_json()) == canonical_bytes(far.ir_json())
    assert near.map.files == far.map.files
    assert {name: path.parent.parent.name for name, path in near.files.items()} == {
        "team.slurs": "a",
        "team.insults": "std",
    }
    written = near.save(tmp_path / "out")
    for path in written.rglob("*.json"):
        assert str(tmp_path) not in path.read_text(encoding="utf-8")


def test_the_canonical_text_needs_no_import(tmp_path: Path) -> None:
    policy = compile_path(layout(tmp_path, "lib/team.policy"))
    text = canonical_policy(policy.ir)
    assert "import" not in text
    assert "attribute team.harm: score in [0, 1] lower_is_better\n" in text
    again = compile_source(SourceFile(text))
    assert again.semantic_hash == policy.semantic_hash
    assert canonical_policy(again.ir) == text


def test_the_checkers_agree_with_the_reference_interpreter(tmp_path: Path) -> None:
    place = layout(tmp_path, "team.policy")
    policy = compile_path(place)
    statement = check_source(read_source(place)).require().statements[1]
    clause = next(c for c in policy.ir.clauses if c.label == "clean")
    for slurs, insults in ((0, 0), (0, 2), (1, 1), (0, 1), (None, 2), (None, 0)):
        scores = {"team.slurs": slurs, "team.insults": insults}
        exact = {k: None if x is None else Decimal(x) for k, x in scores.items()}
        arrays = {k: np.array([np.nan if x is None else float(x)]) for k, x in scores.items()}
        violation = statistics([clause], arrays)[0, 0]
        expected = evaluate(statement.formula, exact)
        assert (None if np.isnan(violation) else violation == 0) == expected


def test_a_compiled_directory_stands_alone(tmp_path: Path) -> None:
    policy = compile_path(layout(tmp_path / "work", "lib/team.policy"))
    policy.save(tmp_path / "work" / "out")
    shutil.move(tmp_path / "work" / "out", tmp_path / "moved")
    shutil.rmtree(tmp_path / "work")
    loaded = CompiledPolicy.load(tmp_path / "moved")
    assert loaded.semantic_hash == policy.semantic_hash
    assert compile_path(tmp_path / "moved").semantic_hash == policy.semantic_hash
    scorers = bind_scorers(
        loaded.ir, {}, {"team.harm": lambda **_: [0.0]}, folder=tmp_path / "moved", files=loaded.files
    )
    assert scorers["team.slurs"](prompts=[""], completions=["grr, grr"]) == [2.0]
    assert scorers["team.insults"](prompts=[""], completions=["you fool"]) == [1.0]
    assert loaded.save(tmp_path / "again").joinpath("files", "team.slurs.txt").read_text() == "grr\n"
    for name in ("policy.ir.json", "policy.map.json"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "moved" / name).read_bytes()


def test_a_changed_word_list_is_noticed(tmp_path: Path) -> None:
    policy = compile_path(layout(tmp_path, "team.policy"))
    folder = policy.save(tmp_path / "out")
    (folder / "files" / "team.slurs.txt").write_text("other\n", encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"`team\.slurs\.txt` is not the file"):
        CompiledPolicy.load(folder)
    (folder / "files" / "team.slurs.txt").unlink()
    with pytest.raises(ArtifactError, match="cannot read"):
        CompiledPolicy.load(folder)


def test_what_was_compiled_is_what_is_saved(tmp_path: Path) -> None:
    """Also at the end of a long run, when somebody has changed the list in the meantime."""
    policy = compile_path(layout(tmp_path, "team.policy"))
    (tmp_path / "lists" / "slurs.txt").write_text("new\n", encoding="utf-8")
    folder = policy.save(tmp_path / "late")
    assert (folder / "files" / "team.slurs.txt").read_text(encoding="utf-8") == "grr\n"
    assert CompiledPolicy.load(folder).map == policy.map


@pytest.mark.parametrize("name", ["../slurs.txt", "a/b.txt", ".hidden", "", "c:\\x"])
def test_a_map_cannot_name_files_elsewhere(tmp_path: Path, name: str) -> None:
    folder = compile_path(layout(tmp_path, "team.policy")).save(tmp_path / "out")
    document = json.loads((folder / "policy.map.json").read_text(encoding="utf-8"))
    document["files"]["team.slurs"]["name"] = name
    (folder / "policy.map.json").write_text(json.dumps(document), encoding="utf-8")
    write(folder / "slurs.txt", "grr\n")
    with pytest.raises(ArtifactError, match=r"at `\$\.files\[...\]\.name`"):
        CompiledPolicy.load(folder)


def test_word_lists_are_looked_for(tmp_path: Path) -> None:
    place = layout(tmp_path, "lib/team.policy")
    assert codes(place) == []
    (tmp_path / "lib" / "lists" / "slurs.txt").unlink()
    assert codes(place) == [("PC605", "warning")]
    # A list of the same name in the policy's own folder is another list.
    write(tmp_path / "lists" / "slurs.txt", "grr\n")
    assert codes(place) == [("PC605", "warning")]
    (finding,) = (d for d in check_and_lower(read_source(place)).diagnostics if d.code == "PC605")
    assert finding.source is not None
    assert finding.source.extract(finding.span) == '"lists/slurs.txt"'
    policy = compile_path(place)
    with pytest.raises(ConfigError, match="cannot read"):
        bind_scorers(policy.ir, {"team.harm": ("x.txt", None)}, folder=tmp_path, files=policy.files)


@pytest.mark.parametrize("name", ["../slurs.txt", "/etc/hostname", "link.txt", "sub/../../slurs.txt"])
def test_word_lists_outside_the_folder(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "policies"
    write(tmp_path / "slurs.txt", "grr\n")
    (folder / "sub").mkdir(parents=True)
    (folder / "link.txt").symlink_to(tmp_path / "slurs.txt")
    text = f'attribute a: count {{ backend = lexicon("{name}") }}\n'
    write(folder / "team.policy", text)
    own = write(folder / "own.policy", text + "a == 0\n")
    imported = write(folder / "my.policy", 'import "team.policy" as t\nt.a == 0\n')
    for path in (own, imported):
        assert codes(path) == [("PC119", "error")]
        assert codes(path, allow_path=True) == []
        with pytest.raises(PolicyError):
            compile_path(path)
    policy = compile_path(imported, allow_path=True)
    assert policy.save(tmp_path / "out").joinpath("files").is_dir()
    assert CompiledPolicy.load(tmp_path / "out").semantic_hash == policy.semantic_hash


@pytest.mark.parametrize(
    "name", ["std/lists/nothing.txt", "std/../prelude_1.policy", "std/lists/" + "x" * 300]
)
def test_lists_that_the_standard_library_lacks(name: str) -> None:
    found = check_and_lower(
        SourceFile(f'attribute a: count {{ backend = lexicon("{name}") }}\na == 0\n')
    ).diagnostics
    assert [d.code for d in found if d.severity == "warning"] == ["PC605"]


def test_errors_of_imported_files_reach_every_caller(tmp_path: Path) -> None:
    write(tmp_path / "bad.policy", "attribute a: scre\n")
    place = write(tmp_path / "my.policy", 'import "bad.policy" as b\nb.a < 1\n')
    with pytest.raises(PolicyError) as caught:
        compile_path(place)
    assert "bad.policy:1:14" in str(caught.value)
    (finding,) = (d for d in caught.value.diagnostics if isinstance(d, Diagnostic) and d.is_error)
    assert finding.code == "PC115"
