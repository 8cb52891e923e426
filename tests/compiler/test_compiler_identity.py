"""Properties 34, 35 and 37: equal policies are equal bytes, files are read back whole, and labels mean nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import pytest
from analysis_strategies import DECLARATIONS, rich_texts
from hypothesis import given, settings
from hypothesis import strategies as st

from constraintlang import SourceFile
from constraintlang_compiler.artifact import IR_NAME, MAP_NAME, CompiledPolicy
from constraintlang_compiler.canonical import canonical_bytes, record_json
from constraintlang_compiler.errors import ArtifactError
from constraintlang_compiler.pipeline import compile_source, compile_with_diagnostics

HEADER = DECLARATIONS + "tag lang in {en, de}\n"


@cache
def compiles(text: str) -> bool:
    """Whether a well-typed statement is also one that this release compiles."""
    return compile_with_diagnostics(SourceFile(HEADER + text)).policy is not None


statements = st.lists(rich_texts.filter(compiles), min_size=1, max_size=4)
some = settings(max_examples=25, deadline=None)


def compiled(texts: list[str], name: str = "tone.policy") -> CompiledPolicy:
    return compile_source(SourceFile(HEADER + "\n".join(texts), name))


def ir_bytes(policy: CompiledPolicy) -> bytes:
    return canonical_bytes(policy.ir_json())


# ------------------------------------------------------------ 34: the same bytes
WORKER = """
import sys, json
sys.path[:0] = json.loads(sys.argv[1])
from constraintlang import SourceFile
from constraintlang_compiler.canonical import canonical_bytes
from constraintlang_compiler.pipeline import compile_source
for line in sys.stdin:
    policy = compile_source(SourceFile(json.loads(line), "/elsewhere/other.policy"))
    print(canonical_bytes(policy.ir_json()).hex(), flush=True)
"""


@pytest.fixture(scope="module")
def other_process() -> Iterator[subprocess.Popen[str]]:
    """A process with another hash seed, in another directory, that compiles what it is given."""
    seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    with subprocess.Popen(
        [sys.executable, "-c", WORKER, json.dumps([str(Path(p).resolve()) for p in sys.path if p])],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONHASHSEED": seed}, cwd="/",
    ) as process:  # fmt: skip
        yield process
        assert process.stdin is not None
        process.stdin.close()


@some
@given(texts=statements)
def test_34_another_process_writes_the_same_bytes(
    texts: list[str], other_process: subprocess.Popen[str]
) -> None:
    assert other_process.stdin is not None
    assert other_process.stdout is not None
    other_process.stdin.write(json.dumps(HEADER + "\n".join(texts)) + "\n")
    other_process.stdin.flush()
    assert bytes.fromhex(other_process.stdout.readline()) == ir_bytes(compiled(texts))


@some
@given(statements, st.integers(0, 2**32 - 1))
def test_34_neither_order_nor_place_of_the_text_matters(texts: list[str], seed: int) -> None:
    shuffled = Random(seed).sample(texts, len(texts))
    assert ir_bytes(compiled(shuffled, "/a/b/other.policy")) == ir_bytes(compiled(texts))
    repeated = [*shuffled, shuffled[0]]
    assert ir_bytes(compiled(repeated)) == ir_bytes(compiled(texts))


# ------------------------------------------------------------ 35: files
def objects(document: Any) -> list[dict[str, Any]]:
    """Every object of a JSON document that is a record: maps from names of the author's are none."""
    found = []
    if isinstance(document, dict):
        found = [document]
        for key, value in document.items():
            found += [] if key in ("sampling", "keywords", "stratum", "files") else objects(value)
    elif isinstance(document, list):
        found = [inner for value in document for inner in objects(value)]
    return found


@some
@given(texts=statements, data=st.data())
def test_35_files_are_read_back_and_unknown_fields_rejected(
    texts: list[str], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    policy = compiled(texts)
    folder = policy.save(tmp_path_factory.mktemp("artifact"))
    loaded = CompiledPolicy.load(folder)
    assert loaded.ir == policy.ir
    assert ir_bytes(loaded) == ir_bytes(policy)
    assert record_json(loaded.map) == record_json(policy.map)
    name = data.draw(st.sampled_from([IR_NAME, MAP_NAME]))
    document = json.loads((folder / name).read_text(encoding="utf-8"))

    def read(changed: Any) -> str:
        """What is said against a file; nothing when it is accepted."""
        (folder / name).write_text(json.dumps(changed), encoding="utf-8")
        try:
            CompiledPolicy.load(folder)
        except ArtifactError as error:
            return str(error)
        return ""

    altered = deepcopy(document)
    records = objects(altered)
    records[data.draw(st.integers(0, len(records) - 1))]["unheard_of"] = data.draw(
        st.sampled_from([None, 1, "x"])
    )
    assert "unknown field `unheard_of`" in read(altered)
    minor, major = data.draw(st.integers(0, 30)), data.draw(st.integers(2, 30))
    assert read({**document, "version": f"1.{minor}"}) == ""
    assert "has format version" in read({**document, "version": f"{major}.{minor}"})


# ------------------------------------------------------------ 37: other names
labels = st.lists(st.from_regex(r"[a-z][a-z0-9_]{3,8}_", fullmatch=True), min_size=8, max_size=8, unique=True)


@some
@given(statements, labels)
def test_37_other_labels_change_the_map_only(texts: list[str], names: list[str]) -> None:
    plain = compiled(texts)
    one, other = (
        compiled([f"{label}: {text}" for label, text in zip(chosen, texts, strict=False)])
        for chosen in (names[:4], names[4:])
    )
    assert ir_bytes(one) == ir_bytes(other) == ir_bytes(plain)
    assert one.semantic_hash == other.semantic_hash == plain.semantic_hash
    assert record_json(one.map) != record_json(other.map)
    labelled = {label for clause in one.ir.clauses if (label := clause.label) is not None}
    assert {label.split("[")[0] for label in labelled} <= set(names[:4])
