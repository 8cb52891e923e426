"""The artifact: same bytes for the same meaning, and nothing altered is loaded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from constraintlang.source import SourceFile
from constraintlang_compiler.artifact import IR_NAME, MAP_NAME, SOURCE_NAME, CompiledPolicy
from constraintlang_compiler.canonical import canonical_bytes, sha256_of
from constraintlang_compiler.domains import matches
from constraintlang_compiler.emit import canonical_policy
from constraintlang_compiler.errors import ArtifactError, PolicyError, SourceError
from constraintlang_compiler.pipeline import compile_path, compile_source, compile_with_diagnostics
from constraintlang_compiler.scopes import sample_clauses, scopes_of, utility_clauses

POLICY = """\
edition 1
attribute rude: flag lower_is_better { backend = regex(re"\\b(damn|heck)\\b") }
attribute grade: real in [-2.5, 20] { backend = python("acme:grade", deterministic=true) }
cap: toxicity < 0.1 for domain=chat
every: always not rude or words in [1, 200] for domain=chat and not lang=fr
band: mean(grade) in [3, 9] under temperature=0.7, samples=4
rare: P(toxicity >= 0.5 and rude) < 1% for lang in {en, de} confidence 0.99
wish: prefer mean(words) <= 80 weight 0.5 priority 2
often: P(not rude implies toxicity < 0.3) >= 90%
fluent: preserve mean(perplexity) <= 1.02 * base - 0.5 for domain=wiki
right: preserve mean(accuracy) >= base - 3%
"""


def compiled(text: str = POLICY, name: str = "tone.policy") -> CompiledPolicy:
    return compile_source(SourceFile(text, name))


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_round_trip(tmp_path: Path) -> None:
    policy = compiled()
    policy.save(tmp_path / "out")
    loaded = CompiledPolicy.load(tmp_path / "out")
    assert loaded == policy
    assert set(files(tmp_path / "out")) == {IR_NAME, MAP_NAME, SOURCE_NAME}
    loaded.save(tmp_path / "again")
    assert files(tmp_path / "again") == files(tmp_path / "out")
    assert loaded.source.text == POLICY


def test_saving_replaces_an_earlier_artifact_and_leaves_nothing_behind(tmp_path: Path) -> None:
    compiled("always toxicity < 0.9").save(tmp_path)
    compiled().save(tmp_path)
    assert CompiledPolicy.load(tmp_path) == compiled()
    assert len(files(tmp_path)) == 3


def test_files_are_canonical_json_with_a_hash_of_the_semantics_only(tmp_path: Path) -> None:
    compiled().save(tmp_path)
    content = (tmp_path / IR_NAME).read_bytes()
    document = json.loads(content)
    assert content == canonical_bytes(document) + b"\n"
    assert set(document) == {"format", "version", "edition", "semantic_hash", "tool", "semantics"}
    assert document["semantic_hash"] == sha256_of(document["semantics"])
    assert "cap" not in content.decode()


def test_no_path_reaches_the_artifact(tmp_path: Path) -> None:
    policy = compiled(name=str(tmp_path / "secret" / "tone.policy"))
    policy.save(tmp_path / "out")
    assert all(b"secret" not in content for content in files(tmp_path / "out").values())
    assert policy.map.source == "tone.policy"
    assert compiled(name="C:\\secret\\tone.policy").map.source == "tone.policy"


HEADER, BODY = POLICY.splitlines()[:3], POLICY.splitlines()[3:]


def test_the_order_of_statements_changes_neither_hash_nor_ir_file(tmp_path: Path) -> None:
    compiled().save(tmp_path / "a")
    compiled("\n".join([*HEADER, *reversed(BODY)])).save(tmp_path / "b")
    assert (tmp_path / "a" / IR_NAME).read_bytes() == (tmp_path / "b" / IR_NAME).read_bytes()


def test_renaming_a_label_changes_only_map_and_source(tmp_path: Path) -> None:
    compiled().save(tmp_path / "a")
    compiled(POLICY.replace("cap:", "ceiling:")).save(tmp_path / "b")
    a, b = files(tmp_path / "a"), files(tmp_path / "b")
    assert {name for name in a if a[name] != b[name]} == {MAP_NAME, SOURCE_NAME}


def test_comments_and_spaces_do_not_change_the_hash() -> None:
    assert compiled("# hello\n\n" + POLICY.replace(" < ", "  <  ")).semantic_hash == compiled().semantic_hash


def test_a_threshold_changes_the_hash_and_only_its_clause() -> None:
    one, other = compiled(), compiled(POLICY.replace("toxicity < 0.1 ", "toxicity < 0.2 "))
    assert one.semantic_hash != other.semantic_hash
    ids = [{clause.id for clause in policy.ir.clauses} for policy in (one, other)]
    assert len(ids[0] - ids[1]) == len(ids[1] - ids[0]) == 1


SCRIPT = """
import sys
from constraintlang_compiler.pipeline import compile_path
compile_path(sys.argv[1]).save(sys.argv[2])
"""


def test_bytes_do_not_depend_on_the_hash_seed_or_the_working_directory(tmp_path: Path) -> None:
    source = tmp_path / "tone.policy"
    source.write_text(POLICY, encoding="utf-8")
    outputs = []
    for seed, folder in (("0", tmp_path), ("1", Path("/")), ("12345", tmp_path)):
        out = tmp_path / f"out{seed}"
        subprocess.run(
            [sys.executable, "-c", SCRIPT, str(source), str(out)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=folder,
            check=True,
        )
        outputs.append(files(out))
    assert outputs[0] == outputs[1] == outputs[2]


def test_the_canonical_policy_has_the_same_hash_and_is_a_fixed_point() -> None:
    text = canonical_policy(compiled().ir)
    again = compiled(text)
    assert again.semantic_hash == compiled().semantic_hash
    assert canonical_policy(again.ir) == text


@pytest.mark.parametrize(
    "statement",
    [
        "toxicity < 0.1 or not slur and words > 3",
        "words - 2 * words in [-5, 5] or words / 3 < 1",
        "3 * mean(toxicity) < 1",
        "mean(-toxicity) >= -0.25",
        "mean(toxicity * toxicity - 0.5) <= 0.2",
        "P(slur or toxicity > 0.3) <= 0%",
        "prefer always not slur weight 3",
        "P(toxicity > 0.3 implies slur) > 12.5% for not (a=1 or b in {x, 'y'})".replace("'", '"'),
        "preserve mean(perplexity) < 30",
        "preserve mean(accuracy) >= 0.5 * base + 1%",
        "quantile(2 * toxicity - 0.1, 0.95) > 0.3 per lang, topic",
        "cvar(toxicity, 0.9 | lang=fr) < 0.4",
        "cvar(words, 0.9) >= 40",
        "mean(1 - toxicity) >= 0.9 * base + 0.01",
        "P(slur) < base - 1%",
        "P(slur@base or toxicity@base > 0.5) + mean(toxicity) <= 0.5",
        "median(words | lang=fr) <= 1.2 * median(words | lang=en) + 3",
        "mean(toxicity) < 0.1 or (P(slur) < 1% or median(words) > 3) and cvar(words, 0.5) in [1, 9]",
        "not slur@base or toxicity < 0.1",
    ],
)
def test_canonical_statements_mean_the_same(statement: str, tmp_path: Path) -> None:
    header = "attribute slur: flag\n"
    policy = compiled(header + statement)
    assert compiled(canonical_policy(policy.ir)).semantic_hash == policy.semantic_hash
    assert CompiledPolicy.load(policy.save(tmp_path)).ir == policy.ir


def test_strata_are_in_the_map_and_not_in_the_hash(tmp_path: Path) -> None:
    policy = compiled("tag lang in {en, fr}\nfair: toxicity < 0.1 per lang")
    loaded = CompiledPolicy.load(policy.save(tmp_path))
    assert sorted(clause.stratum["lang"] for clause in loaded.ir.clauses) == ["en", "fr"]
    by_hand = "tag lang in {en, fr}\ntoxicity < 0.1 for lang=en\ntoxicity < 0.1 for lang=fr"
    assert compiled(by_hand).semantic_hash == policy.semantic_hash


# ------------------------------------------------------------------ rejection
def edit(folder: Path, name: str, change: object) -> None:
    document = json.loads((folder / name).read_text(encoding="utf-8"))
    change(document)  # type: ignore[operator]
    (folder / name).write_text(json.dumps(document), encoding="utf-8")


def first_bound(document: dict, value: str) -> None:
    document["semantics"]["clauses"][0]["bound"] = value


def rehash(document: dict) -> None:
    first_bound(document, "0.5")
    document["semantic_hash"] = sha256_of(document["semantics"])


def swap_clauses(document: dict) -> None:
    document["clauses"].reverse()


ALTERATIONS = [
    (IR_NAME, lambda d: first_bound(d, "0.5"), "hash to sha256:.* the file says"),
    (IR_NAME, rehash, f"{MAP_NAME} is of"),
    (IR_NAME, lambda d: d.update(extra=1), "unknown field `extra`"),
    (
        IR_NAME,
        lambda d: d["semantics"]["clauses"][0].update(extra=1),
        r"`extra` - at `\$\.semantics\.clauses\[0\]`",
    ),
    (IR_NAME, lambda d: d.update(version="2.0"), r"format version '2\.0', this constraintc reads '1\.0'"),
    (IR_NAME, lambda d: d.update(version=None), "has format version None"),
    (IR_NAME, lambda d: d.update(format="other"), r"Invalid enum value 'other' - at `\$\.format`"),
    (IR_NAME, lambda d: d.update(edition=2), "edition 2 outside, 1 inside"),
    (IR_NAME, lambda d: first_bound(d, "0.50"), "matching regex"),
    (IR_NAME, lambda d: first_bound(d, 0.5), "Expected `str`, got `float`"),
    (IR_NAME, lambda d: d["semantics"].pop("attributes"), "missing required field `attributes`"),
    (IR_NAME, lambda d: d["semantics"]["clauses"][0].update(priority=2**60), "priority"),
    (IR_NAME, lambda d: d["semantics"]["clauses"][0].pop("hard"), "a field is missing"),
    (IR_NAME, lambda d: d.update(edition=1.0), "Expected `int`, got `float`"),
    (IR_NAME, lambda d: d["semantics"]["clauses"][0].update(bound="0.5\n"), "matching regex"),
    (MAP_NAME, swap_clauses, "lists other clauses"),
    (MAP_NAME, lambda d: d["clauses"].pop(), "lists other clauses"),
    (MAP_NAME, lambda d: d.update(source="../../etc/passwd"), "without folders"),
    (MAP_NAME, lambda d: d["clauses"][0].update(statements=[]), "length >= 1"),
    (MAP_NAME, lambda d: d.update(semantic_hash="sha256:" + "0" * 64), "is of sha256:0000"),
    (MAP_NAME, lambda d: d.update(source="\ud800"), "is not a compiled policy of this version"),
    (IR_NAME, lambda d: d["tool"].update(name="\ud800"), "is not a compiled policy of this version"),
]


@pytest.mark.parametrize(("name", "change", "message"), ALTERATIONS)
def test_altered_artifacts_are_rejected(tmp_path: Path, name: str, change: object, message: str) -> None:
    compiled().save(tmp_path)
    edit(tmp_path, name, change)
    with pytest.raises(ArtifactError, match=message) as caught:
        CompiledPolicy.load(tmp_path)
    assert caught.value.help


def test_a_clause_under_another_id_is_rejected(tmp_path: Path) -> None:
    compiled().save(tmp_path)
    fake = "sha256:" + "1" * 64

    def rename(document: dict) -> None:
        clauses = document["semantics"]["clauses"] if "semantics" in document else document["clauses"]
        clauses[0]["id"] = fake

    edit(tmp_path, IR_NAME, rename)
    document = json.loads((tmp_path / IR_NAME).read_text(encoding="utf-8"))
    new_hash = sha256_of(document["semantics"])
    edit(tmp_path, IR_NAME, lambda d: d.update(semantic_hash=new_hash))
    edit(tmp_path, MAP_NAME, lambda d: d.update(semantic_hash=new_hash))
    edit(tmp_path, MAP_NAME, rename)
    with pytest.raises(ArtifactError, match=f"hashes to sha256:.* the file says {fake}"):
        CompiledPolicy.load(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "not valid JSON"),
        (b"[]", "holds a list"),
        (b'{"a": 1, "a": 2}', "repeats a key"),
        (b"\xff\xfe", "not UTF-8"),
        (b"[" * 100_000, "not valid JSON"),
        (b'{"version": "1.0", "semantics": NaN}', "is not a compiled policy"),
    ],
)
def test_files_that_are_no_json_are_rejected(tmp_path: Path, content: bytes, message: str) -> None:
    compiled().save(tmp_path)
    (tmp_path / IR_NAME).write_bytes(content)
    with pytest.raises(ArtifactError, match=message):
        CompiledPolicy.load(tmp_path)


@pytest.mark.parametrize("name", [IR_NAME, MAP_NAME, SOURCE_NAME])
def test_missing_files_are_named(tmp_path: Path, name: str) -> None:
    compiled().save(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ArtifactError, match=name):
        compile_path(tmp_path)


def test_saving_over_a_file_is_an_error(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("x", encoding="utf-8")
    with pytest.raises(ArtifactError, match="cannot write"):
        compiled().save(target)
    assert target.read_text(encoding="utf-8") == "x"


def test_a_deeply_nested_policy_survives_the_round_trip(tmp_path: Path) -> None:
    formula = "toxicity < 0.5"
    for depth in range(190):
        formula = f"({formula} {'and' if depth % 2 else 'or'} words < {depth})"
    compiled(formula).save(tmp_path)
    assert CompiledPolicy.load(tmp_path) == compiled(formula)


# ------------------------------------------------------------------ pipeline
def test_a_path_may_be_a_file_or_a_compiled_directory(tmp_path: Path) -> None:
    source = tmp_path / "tone.policy"
    source.write_text(POLICY, encoding="utf-8")
    compile_path(source).save(tmp_path / "out")
    assert compile_path(tmp_path / "out").ir == compile_path(str(source)).ir


def test_unreadable_sources_say_why(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no policy file"):
        compile_path(tmp_path / "absent.policy")
    with pytest.raises(ArtifactError, match="holds no compiled policy"):
        compile_path(tmp_path)
    latin = tmp_path / "latin.policy"
    latin.write_bytes(b"# caf\xe9")
    with pytest.raises(PolicyError) as caught:
        compile_path(latin)
    (error,) = caught.value.diagnostics
    assert (error.code, error.span.start, error.message) == ("PC007", 5, "the byte 0xe9 is no UTF-8 text")
    large = tmp_path / "large.policy"
    large.write_bytes(b"#" * (4 * 1024 * 1024 + 1))
    with pytest.raises(PolicyError, match="larger than 4 MiB"):
        compile_path(large)


def test_a_byte_order_mark_is_not_part_of_the_policy(tmp_path: Path) -> None:
    source = tmp_path / "bom.policy"
    source.write_bytes(b"\xef\xbb\xbftoxicity < 0.1")
    assert compile_path(source).ir == compiled("toxicity < 0.1").ir


def test_errors_of_checker_and_lowering_carry_the_source() -> None:
    with pytest.raises(PolicyError) as caught:
        compiled("toxcity < 0.1")
    assert caught.value.source.name == "tone.policy"
    outcome = compile_with_diagnostics(SourceFile("mean(words) >= 3\ntoxicity < 0.1"))
    assert outcome.policy is None
    assert [d.code for d in outcome.diagnostics] == ["PC104", "PC210", "PC404"]


def test_the_map_leads_back_to_the_statement() -> None:
    policy = compiled()
    for clause, names in zip(policy.ir.clauses, policy.map.clauses, strict=True):
        line = POLICY.splitlines()[names.statements[0].line - 1]
        assert line.startswith((clause.label or "").split("[")[0] + ":")
    assert [clause.label for clause in policy.clauses_as_written][:4] == ["cap", "every", "band", "band[2]"]


# ------------------------------------------------------------------ scopes
def test_scopes_index_the_sample_clauses() -> None:
    ir = compiled().ir
    clauses = sample_clauses(ir)
    assert ir.clauses == clauses + utility_clauses(ir)
    rows = [{"domain": "chat", "lang": "en"}, {"domain": "chat", "lang": "fr"}, {}, {"domain": "wiki"}]
    for row, indexes in zip(rows, scopes_of(ir, rows), strict=True):
        assert indexes == tuple(i for i, clause in enumerate(clauses) if matches(clause.domain, row))
    labels = [{(clauses[i].label or "").split("[")[0] for i in indexes} for indexes in scopes_of(ir, rows)]
    everywhere = {"band", "wish", "often"}
    assert labels == [everywhere | {"cap", "every", "rare"}, everywhere | {"cap"}, everywhere, everywhere]


# ------------------------------------------------------------------ hashes that were made to fit
def altered(folder: Path, change: object, *, in_map: object = lambda document: None) -> None:
    """Change an artifact and make all of its hashes fit."""
    compiled().save(folder)
    edit(folder, IR_NAME, change)
    document = json.loads((folder / IR_NAME).read_text(encoding="utf-8"))
    ids = []
    for clause in document["semantics"]["clauses"]:
        clause["id"] = sha256_of({key: value for key, value in clause.items() if key != "id"})
        ids.append(clause["id"])
    whole = document["semantic_hash"] = sha256_of(document["semantics"])
    (folder / IR_NAME).write_text(json.dumps(document), encoding="utf-8")

    def fit(found: dict) -> None:
        found["semantic_hash"] = whole
        for clause, name in zip(found["clauses"], ids, strict=False):
            clause["id"] = name
        in_map(found)  # type: ignore[operator]

    edit(folder, MAP_NAME, fit)


def first_clause(**changes: object) -> object:
    return lambda document: document["semantics"]["clauses"][0].update(changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (first_clause(confidence="0"), "the confidence of"),
        (first_clause(confidence="1.5"), "the confidence of"),
        (lambda d: d["semantics"].update(attributes=[]), "is read and not declared"),
        (lambda d: d["semantics"]["attributes"].append(d["semantics"]["attributes"][0]), "declared twice"),
        (lambda d: d["semantics"]["attributes"][0].update(low="2", high="1"), r"the range of .* is \[2, 1\]"),
    ],
)
def test_what_no_policy_compiles_to_is_rejected(tmp_path: Path, change: object, message: str) -> None:
    altered(tmp_path, change)
    with pytest.raises(ArtifactError, match=message):
        CompiledPolicy.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "in_map"),
    [
        (first_clause(bound="0.77"), lambda found: None),
        (first_clause(priority=7), lambda found: None),
        (lambda document: None, lambda found: found["clauses"][0].update(text="always toxicity < 0.0001")),
    ],
)
def test_a_path_to_an_artifact_that_its_source_does_not_say_is_rejected(
    tmp_path: Path, change: object, in_map: object
) -> None:
    altered(tmp_path, change, in_map=in_map)
    CompiledPolicy.load(tmp_path)  # each file by itself is whole
    with pytest.raises(ArtifactError, match="not those of its source"):
        compile_path(tmp_path)


@pytest.mark.parametrize(
    "source",
    [
        "cap: toxicity <\n",
        "cap: toxcity < 0.1\n",
        POLICY.replace("edition 1\n", 'edition 1\nimport "std/no_pii.policy" as pii\n'),
    ],
)
def test_an_altered_source_does_not_keep_it_from_being_compared(tmp_path: Path, source: str) -> None:
    altered(tmp_path, first_clause(bound="0.77"))
    (tmp_path / SOURCE_NAME).write_text(source, encoding="utf-8")
    CompiledPolicy.load(tmp_path)
    with pytest.raises(ArtifactError, match="not those of its source"):
        compile_path(tmp_path)
