"""Highlighters are those that the tables of the language give; hooks, action and extension work as they are."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from constraintc.main import VERBS, build_parser, main
from constraintc.pygments_lexer import PolicyLexer
from constraintlang.catalogue import PAGES
from constraintlang.parser import tokens_of
from constraintlang.wording import KEYWORDS

ROOT = Path(__file__).parents[2]
EXTENSION = ROOT / "docs" / "editors" / "vscode"
GOLDEN = sorted((ROOT / "tests" / "golden" / "policies").glob("*.policy"))
TEXTS = {path.stem: path.read_text(encoding="utf-8") for path in GOLDEN} | {
    "prelude": (ROOT / "policies" / "constraintlang_policies" / "prelude_1.policy").read_text(
        encoding="utf-8"
    ),
    **{code: page.repaired for code, page in PAGES.items()},
}
FAMILIES = {
    "COMMENT": ("Comment", "comment"),
    "STRING": ("Literal.String", "string.quoted"),
    "REGEX": ("Literal.String.Regex", "string.regexp"),
    "INT": ("Literal.Number", "constant.numeric"),
    "NUMBER": ("Literal.Number", "constant.numeric"),
    "PERCENT": ("Literal.Number", "constant.numeric"),
    "CMP": ("Operator", "keyword.operator"),
}
"""What each terminal is called by Pygments and by TextMate."""


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("maker", ROOT / "docs" / "editors" / "make_highlighters.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# ------------------------------------------------------------------ highlighters
def test_highlighters_are_up_to_date(maker: ModuleType) -> None:
    assert len(maker.FILES) == 2
    for path, made in maker.FILES.items():
        assert path.read_bytes() == made().encode(), "run: python docs/editors/make_highlighters.py"


def test_a_new_word_would_be_seen(maker: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maker, "CLAUSES", maker.CLAUSES | {"NEVERTHELESS"})
    assert all(path.read_text(encoding="utf-8") != made() for path, made in maker.FILES.items())


def test_every_keyword_is_in_one_family(maker: ModuleType) -> None:
    families = [maker.STRENGTH, maker.CLAUSES, maker.LOGIC, maker.CONSTANTS, maker.DECLARING, maker.ORDER]
    words = [word for family in families for word in family]
    assert sorted(words) == sorted(KEYWORDS)


def pygments_tokens(text: str) -> Iterator[tuple[int, str, str]]:
    """Offset, text and kind of what Pygments finds, space left out."""
    for offset, kind, value in PolicyLexer().get_tokens_unprocessed(text):
        if value.strip():
            yield offset, value, ".".join(kind)


def textmate_tokens(text: str) -> Iterator[tuple[int, str, str]]:
    """Offset, text and scope of what a TextMate engine finds: line by line, the first of the leftmost matches."""
    grammar = json.loads((EXTENSION / "syntaxes" / "policy.tmLanguage.json").read_text(encoding="utf-8"))
    patterns = [(re.compile(pattern["match"]), pattern["name"]) for pattern in grammar["patterns"]]
    start = 0
    for line in text.splitlines(keepends=True):
        at = 0
        while True:
            found = [
                (match.start(), n, match)
                for n, (p, _) in enumerate(patterns)
                if (match := p.search(line, at))
            ]
            if not found:
                break
            _, number, match = min(found, key=lambda one: one[:2])
            yield start + match.start(), match[0].rstrip("\r\n"), patterns[number][1]
            at = match.end()
        start += len(line)


@pytest.mark.parametrize(("lexer", "column"), [(pygments_tokens, 0), (textmate_tokens, 1)])
def test_texts_are_cut_as_the_language_cuts_them(lexer: Any, column: int) -> None:
    keyword = re.compile(("Keyword|Operator.Word", "keyword|storage.modifier|constant.language")[column])
    for name, text in TEXTS.items():
        found = list(lexer(text))
        real = [token for token in tokens_of(text) if token.type != "_NL"]
        assert [(offset, value) for offset, value, _ in found] == [(t.start_pos, str(t)) for t in real], name
        for (_, value, kind), token in zip(found, real, strict=True):
            assert not kind.startswith(("Error", "invalid")), (name, value)
            assert kind.startswith(FAMILIES.get(token.type, ("", ""))[column]), (name, value, kind)
            is_keyword = keyword.match(kind) is not None and value.isidentifier()
            assert is_keyword == (token.type in KEYWORDS), (name, value, kind)


def test_what_is_never_closed_is_an_error_in_both() -> None:
    text = 'toxicity < 1 because "never'
    assert [kind for _, value, kind in pygments_tokens(text) if "never" in value] == ["Error"]
    assert [kind for _, value, kind in textmate_tokens(text) if "never" in value] == [
        "invalid.illegal.unclosed.policy"
    ]


def test_pygments_finds_the_lexer() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    module, _, name = project["entry-points"]["pygments.lexers"]["policy"].partition(":")
    assert getattr(importlib.import_module(module), name) is PolicyLexer
    assert PolicyLexer.filenames == ["*.policy"]


# ------------------------------------------------------------------ the extension
def test_the_extension_names_files_that_exist() -> None:
    manifest = json.loads((EXTENSION / "package.json").read_text(encoding="utf-8"))
    (language,) = manifest["contributes"]["languages"]
    (grammar,) = manifest["contributes"]["grammars"]
    textmate = json.loads((EXTENSION / grammar["path"]).read_text(encoding="utf-8"))
    assert language["id"] == grammar["language"] == "policy"
    assert textmate["scopeName"] == grammar["scopeName"]
    assert (EXTENSION / manifest["main"]).is_file()
    brackets = json.loads((EXTENSION / language["configuration"]).read_text(encoding="utf-8"))
    assert brackets["comments"] == {"lineComment": "#"}
    script = (EXTENSION / manifest["main"]).read_text(encoding="utf-8")
    (setting,) = manifest["contributes"]["configuration"]["properties"]
    section, _, key = setting.partition(".")
    assert f'getConfiguration("{section}").get("{key}")' in script
    assert 'args: ["lsp"]' in script


@pytest.mark.skipif(shutil.which("node") is None, reason="no `node` on this machine")
def test_the_script_of_the_extension_starts_the_server(tmp_path: Path) -> None:
    """The script with stand-ins for what VS Code gives it."""
    stand_ins = {
        "vscode": "exports.workspace = { getConfiguration: () => ({ get: () => 'mine' }) };"
        "exports.window = { showErrorMessage: (text) => console.log(text) };",
        "vscode-languageclient/node": "exports.LanguageClient = class {"
        "constructor(...given) { console.log(JSON.stringify(given)); }"
        "async start() { throw new Error('no such file'); }"
        "async stop() { console.log('stopped'); } };",
    }
    for name, code in stand_ins.items():
        folder = tmp_path / "node_modules" / name
        folder.mkdir(parents=True)
        (folder / "index.js").write_text(code, encoding="utf-8")
    shutil.copy(EXTENSION / "extension.js", tmp_path)
    code = "const e = require('./extension.js'); e.activate().then(() => e.deactivate());"
    done = subprocess.run(["node", "-e", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, second, third = done.stdout.splitlines()
    assert json.loads(first)[2:] == [
        {"command": "mine", "args": ["lsp"]},
        {"documentSelector": [{"language": "policy"}]},
    ]
    assert "pip install 'constraintlang[lsp]'" in second
    assert "no such file" in second
    assert third == "stopped"


# ------------------------------------------------------------------ pre-commit
HOOKS = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook["id"])
def test_hooks(hook: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command, verb, *rest = hook["entry"].split()
    assert command == "constraintc"
    assert hook["id"] == f"constraintc-{verb}"
    assert re.search(hook["files"], "a/b.policy")
    assert not re.search(hook["files"], "b.policy.md")
    if verb not in VERBS:
        pytest.skip(f"this release has no `constraintc {verb}`")
    args, extra = build_parser(verb).parse_known_args([verb, *rest, "a.policy", "b.policy"])
    assert (args.verb, extra) == (verb, [])
    monkeypatch.chdir(tmp_path)
    Path("good.policy").write_text("always toxicity < 0.1\n", encoding="utf-8")
    Path("bad.policy").write_text("always toxcity <\n", encoding="utf-8")
    assert main([verb, *rest, "good.policy"]) == 0
    assert main([verb, *rest, "good.policy", "bad.policy"]) != 0


# ------------------------------------------------------------------ the page
def test_the_page_names_what_there_is() -> None:
    page = (ROOT / "docs" / "editors.md").read_text(encoding="utf-8")
    blocks = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)]
    hooks = [hook["id"] for block in blocks if "repos" in block for hook in block["repos"][0]["hooks"]]
    steps = [step for block in blocks if "steps" in block for step in block["steps"]]
    (action,) = (step for step in steps if "constraintlang" in step["uses"])
    assert sorted(hooks) == sorted(hook["id"] for hook in HOOKS)
    assert set(action["with"]) <= set(ACTION["inputs"])
    assert len(blocks) == 3


# ------------------------------------------------------------------ the action
ACTION = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
STEP = next(step for step in ACTION["runs"]["steps"] if "constraintc check" in step.get("run", ""))


def run_step(folder: Path, **inputs: str) -> subprocess.CompletedProcess[str]:
    """The step that checks, as a runner executes it: the shell of GitHub, inputs by way of the environment."""
    given = {name: spec["default"] for name, spec in ACTION["inputs"].items()} | inputs
    shim = folder / "bin" / "constraintc"
    shim.parent.mkdir(exist_ok=True)
    shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m constraintc.main "$@"\n', encoding="utf-8")
    shim.chmod(0o755)
    environment = {
        "PATH": f"{shim.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(
            str(ROOT / floor) for floor in ("constraintlang", "compiler", "policies")
        ),
    }
    for name, value in STEP["env"].items():
        (reference,) = re.findall(r"^\$\{\{ inputs\.([\w-]+) \}\}$", value)
        environment[name] = given[reference]
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", STEP["run"]]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "good.policy").write_text("toxicity < 0.1\n", encoding="utf-8")
    (tmp_path / "deep" / "er" / "with space.policy").write_text("mean(toxicity) > 0.1\n", encoding="utf-8")
    (tmp_path / "-odd.policy").write_text("edition 1\nlet cap = 0.1\n", encoding="utf-8")
    return tmp_path


def test_the_action_checks_every_policy(repository: Path) -> None:
    done = run_step(repository)
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^::(\w+) file=([^,]+),.*title=(PC\d+)", done.stdout, re.MULTILINE) == [
        ("warning", "deep/er/with space.policy", "PC405"),
        ("notice", "good.policy", "PC404"),
    ]
    assert "3 files checked" in done.stderr


def test_the_action_fails_when_a_policy_does(repository: Path) -> None:
    assert run_step(repository, deny="warnings").returncode == 1
    assert run_step(repository, deny="warnings", ignore="PC405").returncode == 0
    (repository / "bad.policy").write_text("toxcity < 0.1\n", encoding="utf-8")
    assert run_step(repository).returncode == 3
    assert run_step(repository, files="good.policy deep/**/*.policy").returncode == 0


def test_the_action_fails_when_it_finds_nothing_to_check(repository: Path) -> None:
    done = run_step(repository, files="polices/*.policy")
    assert done.returncode == 2
    assert done.stdout == "::error title=constraintc::no file matches polices/*.policy\n"


def test_no_input_of_the_action_is_pasted_into_a_script() -> None:
    for step in ACTION["runs"]["steps"]:
        assert "${{" not in step.get("run", "")
        for value in step.get("env", {}).values():
            assert re.fullmatch(r"\$\{\{ inputs\.[\w-]+ \}\}", value)
            assert re.findall(r"[\w-]+", value)[1] in ACTION["inputs"]
