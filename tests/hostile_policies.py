"""Policies that try to run code, to read what is not theirs, to send something away, or to use up the machine."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Hostile:
    """``text`` stands below ``edition 1``; ``by`` is the code or the error that refuses it, ``says`` words of it."""

    text: str
    by: str
    says: str


def measured(backend: str, type: str = "count") -> str:
    """A policy with one attribute, measured so."""
    demand = "always not a" if type == "flag" else "a <= 1"
    return f"attribute a: {type} {{ backend = {backend} }}\n{demand}\n"


def write_folder(place: Path) -> Path:
    """The folder of the policies, with what they are after beside it; whatever runs leaves the file ``owned``."""
    inner = place / "inner"
    (inner / "sub").mkdir(parents=True)
    for name in ("secret.json", "secret.txt", "checks.py"):
        (place / name).write_text("{}")
    (place / "secret.policy").write_text("edition 1\nlet key = 1\n")
    (place / "model").mkdir()
    (inner / "link").symlink_to(place / "secret.json")
    (inner / "link.txt").symlink_to(place / "secret.txt")
    (inner / "link.policy").symlink_to(place / "secret.policy")
    (inner / "up").symlink_to(place)
    (inner / "zero.txt").symlink_to("/dev/zero")
    (inner / "loop.txt").symlink_to(inner / "loop.txt")
    os.mkfifo(inner / "pipe.txt")
    (inner / "words.txt").write_text("dog\n")
    (inner / "binary.txt").write_bytes(b"\0\xff\xfe" * 100)
    (inner / "rubric.md").write_text("Is it rude?\n")
    (inner / "remote.json").write_text('{"$ref": "http://127.0.0.1:9/s.json"}')
    (inner / "deep.json").write_text("[" * 100_000)
    (inner / "evil.py").write_text("open('owned', 'w')\ndef f(**k): return []\n")
    (inner / "checks.py").write_text("open('owned', 'w')\ndef test_a(): pass\n")
    (inner / "self.policy").write_text('edition 1\nimport "self.policy" as s\n')
    (inner / "big.policy").write_text("# " + "x" * 5_000_000 + "\n")
    (inner / "many").mkdir()
    for number in range(101):
        (inner / "many" / f"p{number}.policy").write_text("edition 1\nlet x = 1\n")
    return inner


POLICIES: dict[str, Hostile] = {
    "schema above": Hostile(
        measured('json_schema("../../etc/passwd")', "flag"), "PC119", "leaves the folder"
    ),
    "schema at the root": Hostile(
        measured('json_schema("/etc/passwd")', "flag"), "PC119", "leaves the folder"
    ),
    "schema by a link": Hostile(measured('json_schema("link")', "flag"), "PC119", "leaves the folder"),
    "schema by a detour": Hostile(
        measured('json_schema("sub/../../secret.json")', "flag"), "PC119", "leaves the folder"
    ),
    "word list above": Hostile(measured('lexicon("../secret.txt")'), "PC119", "leaves the folder"),
    "word list of the library": Hostile(
        measured('lexicon("std/../../secret.txt")'), "ConfigError", "expected a name below `std/`"
    ),
    "rubric at the root": Hostile(measured('judge("/etc/passwd")', "score"), "PC119", "leaves the folder"),
    "rubric above": Hostile(measured('judge("../secret.txt")', "flag"), "PC119", "leaves the folder"),
    "tests above": Hostile(measured('code_tests("../checks.py")', "flag"), "PC119", "leaves the folder"),
    "tests without leave": Hostile(
        measured('code_tests("checks.py")', "flag"), "ConfigError", "code is not allowed"
    ),
    "a shell": Hostile(measured('python("os:system")', "score"), "ConfigError", "plug-ins are not allowed"),
    "a module with effects": Hostile(
        measured('python("antigravity:fly")', "score"), "ConfigError", "plug-ins are not allowed"
    ),
    "a module of the folder": Hostile(
        measured('python("evil:f", deterministic=true)', "score"), "ConfigError", "plug-ins are not allowed"
    ),
    "an attribute of a module": Hostile(
        measured('python("os:environ.get")', "score"), "ConfigError", "plug-ins are not allowed"
    ),
    "no function": Hostile(measured('python("evil")', "score"), "PC117", "module:function"),
    "a path": Hostile(measured('python("../evil:f")', "score"), "ConfigError", "plug-ins are not allowed"),
    "classifier above": Hostile(
        measured('classifier("../model")', "score"), "ConfigError", "lies outside its folder"
    ),
    "classifier at the root": Hostile(
        measured('classifier("/etc")', "score"), "ConfigError", "lies outside its folder"
    ),
    "no language": Hostile(
        measured('language("xx; import os")', "score"), "ConfigError", "expected an ISO 639-1 code"
    ),
    "schema from the network": Hostile(
        measured('json_schema("remote.json")', "flag"), "ConfigError", "which is not in the file"
    ),
    "schema that is no schema": Hostile(
        measured('json_schema("words.txt")', "flag"), "ConfigError", "is not JSON"
    ),
    "a pattern that goes back": Hostile(measured('regex(re"(a)\\1")'), "PC122", "needs backtracking"),
    "a word list by a link": Hostile(measured('lexicon("link.txt")'), "PC119", "leaves the folder"),
    "a word list in a folder by a link": Hostile(
        measured('lexicon("up/secret.txt")'), "PC119", "leaves the folder"
    ),
    "a device": Hostile(measured('lexicon("zero.txt")'), "PC119", "leaves the folder"),
    "a pipe that nobody writes to": Hostile(
        measured('lexicon("pipe.txt")'), "ConfigError", "which is no file"
    ),
    "a link to itself": Hostile(measured('lexicon("loop.txt")'), "ConfigError", "which is no file"),
    "what a process was started with": Hostile(
        measured('lexicon("/proc/self/environ")'), "PC119", "leaves the folder"
    ),
    "a file that is no text": Hostile(measured('lexicon("binary.txt")'), "ConfigError", "is not UTF-8"),
    "a folder for a file": Hostile(measured('lexicon("sub")'), "ConfigError", "Is a directory"),
    "the home folder": Hostile(
        measured('lexicon("~/secret.txt")'), "ConfigError", "No such file or directory"
    ),
    "a variable of the environment": Hostile(
        measured('lexicon("$HOME/secret.txt")'), "ConfigError", "No such file or directory"
    ),
    "a variable of Windows": Hostile(
        measured('json_schema("%APPDATA%/s.json")', "flag"), "ConfigError", "No such file or directory"
    ),
    "a name that is formatted": Hostile(
        measured('lexicon("%s%n{0.__class__}.txt")'), "ConfigError", "No such file or directory"
    ),
    "a name of 10,000 characters": Hostile(
        measured('lexicon("' + "a/" * 5000 + 'w.txt")'), "ConfigError", "File name too long"
    ),
    "a word list of the network": Hostile(
        measured('lexicon("https://127.0.0.1:9/$API_KEY.txt")'), "ConfigError", "No such file or directory"
    ),
    "a share of Windows": Hostile(
        measured('lexicon("\\\\\\\\127.0.0.1\\\\share\\\\w.txt")'), "ConfigError", "No such file or directory"
    ),
    "a schema by its address": Hostile(
        measured('json_schema("file:///etc/passwd")', "flag"), "ConfigError", "No such file or directory"
    ),
    "a rubric of the network": Hostile(
        measured('judge("https://127.0.0.1:9/?key=$OPENAI_API_KEY")', "score"), "ConfigError", "names none"
    ),
    "a judge elsewhere": Hostile(
        measured('judge("rubric.md", url="https://127.0.0.1:9")', "score"),
        "PC115",
        "no setting of `judge` is called `url`",
    ),
    "a key for a judge": Hostile(
        measured('judge("rubric.md", key="$OPENAI_API_KEY")', "score"),
        "PC115",
        "no setting of `judge` is called `key`",
    ),
    "remote code of a model": Hostile(
        measured('classifier("owner/name", trust_remote_code=true)', "score"),
        "PC115",
        "no setting of `classifier` is called `trust_remote_code`",
    ),
    "a built-in function": Hostile(
        measured('python("builtins:eval")', "score"), "ConfigError", "plug-ins are not allowed"
    ),
    "a way round to one": Hostile(
        measured('python("os.path:__builtins__.eval")', "score"), "ConfigError", "plug-ins are not allowed"
    ),
    "a shell as a backend": Hostile(
        measured('shell("touch owned")', "score"), "PC115", "no backend is called `shell`"
    ),
    "a schema of 100,000 brackets": Hostile(
        measured('json_schema("deep.json")', "flag"), "ConfigError", "is not JSON"
    ),
    "a pattern that multiplies": Hostile(
        measured('regex(re"((a{500}){500}){500}")'), "PC122", "repeats more than 1000 times"
    ),
    "an import above": Hostile('import "../secret.policy" as s\nwords <= 9\n', "PC119", "leaves the folder"),
    "an import at the root": Hostile(
        'import "/etc/passwd" as s\nwords <= 9\n', "PC107", "names no policy file"
    ),
    "an import by a link": Hostile('import "link.policy" as s\nwords <= 9\n', "PC119", "leaves the folder"),
    "an import in a folder by a link": Hostile(
        'import "up/secret.policy" as s\nwords <= 9\n', "PC119", "leaves the folder"
    ),
    "an import out of the library": Hostile(
        'import "std/../../../etc/passwd.policy" as s\nwords <= 9\n', "PC107", "the standard library has no"
    ),
    "an import of Python": Hostile('import "evil.py" as s\nwords <= 9\n', "PC107", "names no policy file"),
    "an import of the network": Hostile(
        'import "https://127.0.0.1:9/p.policy" as s\nwords <= 9\n', "PC107", "there is no file"
    ),
    "an import of itself": Hostile('import "self.policy" as s\nwords <= 9\n', "PC103", "imports itself"),
    "101 imports": Hostile(
        "".join(f'import "many/p{k}.policy" as p{k}\n' for k in range(101)) + "words <= 9\n",
        "PC010",
        "100 files",
    ),
    "an import of 5 MB": Hostile('import "big.policy" as s\nwords <= 9\n', "PC010", "larger than 4 MiB"),
    "20,000 brackets": Hostile(
        "always " + "(" * 20_000 + "words <= 9" + ")" * 20_000 + "\n",
        "PC010",
        "brackets are nested more than 200 deep",
    ),
    "20,000 negations": Hostile(
        "always " + "not " * 20_000 + "words <= 9\n", "PC010", "nested more than 200 levels deep"
    ),
    "a number of a billion digits": Hostile("words <= 1e999999999\n", "PC010", "more than 100 digits"),
    "a constant squared 60 times": Hostile(
        "let a0 = 2\n" + "".join(f"let a{k + 1} = a{k} * a{k}\n" for k in range(60)) + "words <= a60\n",
        "PC223",
        "at most 100 digits",
    ),
    "an escape sequence": Hostile("\x1b[2J: words <= 9\n", "PC002", "is never closed"),
    "a NUL": Hostile("words \x00 <= 9\n", "PC007", "(U+0000)"),
    "a letter of another alphabet": Hostile("wоrds <= 9\n", "PC007", "cyrillic small letter o"),
}
