"""What a policy trusts: pinned by content, refused when it moves, listed in full; nothing of it is run."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from constraintlang import PolicyError, SourceFile
from constraintlang_compiler.errors import LockError
from constraintlang_compiler.lock.audit import Trusted, audit
from constraintlang_compiler.lock.content import content_hash
from constraintlang_compiler.lock.drift import drift, require_unmoved, unpinned
from constraintlang_compiler.lock.lock_file import (
    Lock,
    lock_of,
    lock_path,
    lock_text,
    locked_scorers,
    read_lock,
    write_lock,
)
from constraintlang_compiler.lock.pins import Part, Place, cached_commit, parts_of
from constraintlang_compiler.lock.plugins import find_plugin

POLICY = """edition 1
domain chat { source = jsonl("data/chat.jsonl") }
attribute insult: score { backend = classifier("models/tox", label="toxic") }
attribute rude: score { backend = classifier("unitary/toxic-bert", revision="4d6c22e") }
attribute slurs: count { backend = lexicon("lists/slurs.txt") }
attribute grade: score { backend = python("acme.metrics:grade") }
attribute ssn: flag { backend = regex(re"[0-9]{9}") }
cap: toxicity < 0.1 for domain=chat
insult < 0.1 under temperature=1 confidence 0.99
rude < 0.1 under tolerance=1%
slurs == 0
mean(grade) < 0.5
always not ssn
"""
RUNS = "raise SystemExit('this plug-in was run')\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A policy with everything that it names, and a plug-in that must not run."""
    for name, content in {
        "lists/slurs.txt": "bad\n",
        "models/tox/config.json": "{}",
        "models/tox/weights/model.safetensors": "0101",
        "data/chat.jsonl": "{}\n",
        "site/acme/__init__.py": RUNS,
        "site/acme/metrics.py": RUNS,
        "my.policy": POLICY,
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path / "site")
    return tmp_path


def parts(folder: Path, text: str = POLICY, **options: tuple[str, str | None]) -> list[Part]:
    options = options or {"toxicity": (str(folder / "models" / "tox"), "toxic")}
    return parts_of(SourceFile(text, "my.policy"), Place(folder, options))


def pins(folder: Path) -> dict[str, str | None]:
    return {part.name: part.pin for part in parts(folder)}


# ------------------------------------------------------------ pins
def test_every_part_is_pinned(folder: Path) -> None:
    found = pins(folder)
    assert list(found) == [
        "attribute grade", "attribute insult", "attribute rude", "attribute slurs", "attribute ssn",
        "attribute toxicity", "domain chat",
    ]  # fmt: skip
    assert found["attribute rude"] == "revision 4d6c22e"
    assert found["attribute ssn"] == "built in"
    assert found["attribute slurs"] == content_hash(folder / "lists" / "slurs.txt")
    assert found["attribute insult"] == found["attribute toxicity"] == content_hash(folder / "models" / "tox")
    assert found["attribute grade"] == content_hash(folder / "site" / "acme" / "metrics.py")
    assert "acme" not in sys.modules


def test_a_folder_is_its_files_wherever_it_lies(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    model = folder / "models" / "tox"
    before = content_hash(model)
    (model / ".cache").mkdir()
    (model / ".cache" / "times").write_text("now")
    os.utime(model / "config.json", (0, 0))
    assert content_hash(model) == before
    other = tmp_path_factory.mktemp("elsewhere")
    (other / "weights").mkdir()
    (other / "config.json").write_text("{}")
    blob = folder / "blob"
    blob.write_text("0101")
    (other / "weights" / "model.safetensors").symlink_to(blob)
    assert content_hash(other) == before
    (model / "config.json").rename(model / "config2.json")
    assert content_hash(model) != before
    with pytest.raises(FileNotFoundError):
        content_hash(tmp_path_factory.mktemp("empty"))


def test_a_plugin_of_a_distribution_names_it() -> None:
    found = find_plugin("hypothesis.strategies:text")
    assert found is not None
    assert found.distribution == "hypothesis"
    assert found.pin.startswith(f"hypothesis {found.version} sha256:")
    assert find_plugin("no_such_package.module:f") is None
    assert find_plugin("hypothesis.no_such_module:f") is None
    assert find_plugin("../etc/passwd:f") is None


@pytest.mark.parametrize(
    ("backend", "problem", "help"),
    [
        ('classifier("unitary/toxic-bert")', "names no revision", "write a commit hash as `revision`"),
        (
            'classifier("unitary/toxic-bert", revision="main")',
            "follows `main`, which may move",
            "commit hash",
        ),
        ('classifier("unitary/toxic-bert", revision="v1.0")', "follows `v1.0`", "commit hash"),
        ('lexicon("lists/none.txt")', "cannot read `lists/none.txt`: no such file", "check the path"),
        ('lexicon("../outside.txt")', "lies outside the folder of the policy", "--allow-path"),
        ('lexicon("a\\u0000b")', "cannot read", "check the path"),
        ('lexicon("std/\\u0000")', "cannot read", "check the path"),
        (f'classifier("{"a" * 300}")', "names no revision", "write a commit hash as `revision`"),
        (f'python("hypothesis.{"a" * 300}:f")', "is not installed here", "install the distribution"),
        ('python("no_such_package:f")', "is not installed here", "install the distribution"),
    ],
)
def test_what_nothing_pins(
    folder: Path, monkeypatch: pytest.MonkeyPatch, backend: str, problem: str, help: str
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(folder / "empty"))
    text = f"attribute a: score {{ backend = {backend} }}\na < 0.1"
    (part,) = parts(folder, text)
    assert part.pin is None
    assert problem in part.problem
    assert help in part.help
    (diagnostic,) = unpinned([part], "error")
    assert (diagnostic.code, diagnostic.is_error) == ("PC601", True)
    assert text[diagnostic.span.start : diagnostic.span.end].startswith("attribute a")


def test_data_under_a_name_that_no_file_can_have(folder: Path) -> None:
    text = 'domain chat { source = jsonl("a\\u0000b") }\ntoxicity < 0.1 for domain=chat'
    (part,) = [part for part in parts(folder, text) if part.kind == "data"]
    assert part.pin is None
    assert "cannot read" in part.problem


def test_a_scorer_of_the_command_line(folder: Path) -> None:
    text = "toxicity < 0.1"
    (unbound,) = parts_of(SourceFile(text), Place(folder, {}))
    assert "the command line binds its scorer" in unbound.problem
    (hub,) = parts(folder, text, toxicity=("unitary/toxic-bert", None))
    assert hub.pin is None
    assert "no folder here" in hub.problem


def test_the_cache_of_the_hub_is_read_for_the_help(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = "4d6c22e74ba2fdd26bc4f7238f50766b045a0d94"
    refs = folder / "hub" / "models--unitary--toxic-bert" / "refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text(commit)
    monkeypatch.setenv("HF_HUB_CACHE", str(folder / "hub"))
    assert cached_commit("unitary/toxic-bert", "main") == commit
    assert cached_commit("unitary/other", "main") is None
    assert cached_commit("../../etc", "passwd") is None
    (part,) = parts(folder, 'attribute a: score { backend = classifier("unitary/toxic-bert") }\na < 0.1')
    assert f'write `revision="{commit}"`' in part.help


# ------------------------------------------------------------ the lock
def test_a_lock_round_trips_and_is_the_same_every_time(folder: Path) -> None:
    lock = lock_of(parts(folder))
    write_lock(lock, folder / "my.policy.lock")
    assert read_lock(lock_path(folder / "my.policy")) == lock
    assert lock_text(lock_of(list(reversed(parts(folder))))) == lock_text(lock)
    assert str(folder) not in lock_text(lock_of(parts(folder, POLICY, toxicity=("models/tox", None))))
    assert locked_scorers(lock) == [f"toxicity={folder / 'models' / 'tox'}#toxic"]
    assert lock_path(folder) == folder / "lock.json"


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("lists/slurs.txt", "attribute `slurs`"),
        ("models/tox/weights/model.safetensors", "attribute `insult`"),
        ("data/chat.jsonl", "domain `chat`"),
        ("site/acme/metrics.py", "attribute `grade`"),
    ],
)
def test_a_change_is_refused(folder: Path, name: str, part: str) -> None:
    lock = lock_of(parts(folder))
    require_unmoved(parts(folder), lock, SourceFile(POLICY))
    path = folder / name
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(PolicyError) as caught:
        require_unmoved(parts(folder), lock, SourceFile(POLICY))
    moved = [d for d in caught.value.diagnostics if part in d.message]
    assert [d.code for d in moved] == ["PC604"]
    assert len(moved[0].notes) == 2
    path.unlink()
    gone = {d.code for d in drift(parts(folder), lock)}
    assert gone == ({"PC604"} if name.startswith("models") else {"PC601"})


def test_another_name_is_refused(folder: Path) -> None:
    lock = lock_of(parts(folder))
    (folder / "lists" / "other.txt").write_text("bad\n")
    changed = POLICY.replace("lists/slurs.txt", "lists/other.txt")
    (diagnostic,) = drift(parts(folder, changed), lock)
    assert diagnostic.message == (
        "attribute `slurs` was locked with lexicon `lists/slurs.txt`, now it is lexicon `lists/other.txt`"
    )
    added = POLICY + 'attribute more: count { backend = lexicon("lists/other.txt") }\nmore == 0\n'
    (diagnostic,) = drift(parts(folder, added), lock)
    assert "is not in the lock" in diagnostic.message


def test_thresholds_are_not_locked(folder: Path) -> None:
    assert (
        drift(parts(folder, POLICY.replace("toxicity < 0.1", "toxicity < 0.2")), lock_of(parts(folder))) == []
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no lock"),
        (b"\xff", "cannot read the lock"),
        (b"[]", "format version None"),
        (b'{"format": "constraintc.lock", "version": "2.0", "parts": {}}', "format version '2.0'"),
        (
            b'{"format": "constraintc.lock", "version": "1.0", "parts": {}, "more": 1}',
            "no lock of this version",
        ),
        (b'{"format": "other", "version": "1.0", "parts": {}}', "no lock of this version"),
    ],
)
def test_what_is_no_lock(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "x.lock"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(LockError, match=message):
        read_lock(path)
    assert LockError.exit_code == 2


def test_a_lock_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(LockError, match="cannot write"):
        write_lock(Lock(format="constraintc.lock", version="1.0", parts={}), tmp_path / "none" / "x.lock")


# ------------------------------------------------------------ audit
def test_the_audit_lists_every_part(folder: Path) -> None:
    found = {e.part: e for e in audit(SourceFile(POLICY), Place(folder, {}))}
    assert {part.name for part in parts(folder)} <= set(found)
    assert "runs the code of `acme.metrics:grade`" in found["attribute grade"].trust
    assert found["attribute grade"].concern == "not declared deterministic, and a requirement rests on it"
    assert "the command line binds its scorer" in found["attribute toxicity"].concern
    assert found["attribute toxicity"].used_by == ("cap",)
    assert found["attribute slurs"].concern == ""
    assert found["tolerance"].used_by == (
        "cap", "insult < 0.1 under temperature=1 confidence 0.99", "slurs == 0",
    )  # fmt: skip
    assert "insult < 0.1 under temperature=1 confidence 0.99" not in found["confidence"].used_by
    assert "insult < 0.1 under temperature=1 confidence 0.99" not in found["sampling law"].used_by
    assert "cap" in found["sampling law"].used_by
    assert all(isinstance(entry, Trusted) and json.dumps(entry.to_json()) for entry in found.values())


def test_nothing_is_assumed_where_all_is_written(folder: Path) -> None:
    text = "always toxicity < 0.5 under temperature=1 confidence 0.9"
    assert [e.part for e in audit(SourceFile(text), Place(folder, {}))] == ["attribute toxicity"]


def test_imported_policies_and_lists_of_the_standard_library_are_pinned(tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "bad.txt").write_text("darn\n")
    (tmp_path / "lists" / "team.policy").write_text('attribute bad: count { backend = lexicon("bad.txt") }\n')
    text = 'import "lists/team.policy" as t\nattribute rude: count { backend = lexicon("std/lists/insults.txt") }\n'
    source = SourceFile(text + "t.bad == 0\nrude == 0\n", "my.policy", tmp_path)

    def pins() -> dict[str, str | None]:
        return {part.name: part.pin for part in parts_of(source, Place(tmp_path, {}))}

    before = pins()
    assert list(before) == ["attribute rude", "attribute t.bad", "import lists/team.policy"]
    assert None not in before.values()
    (tmp_path / "lists" / "bad.txt").write_text("drat\n")
    (tmp_path / "lists" / "team.policy").write_text(
        'attribute bad: count { backend = lexicon("./bad.txt") }\n'
    )
    after = pins()
    assert [name for name in before if before[name] != after[name]] == [*before][1:]
