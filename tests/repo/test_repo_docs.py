"""What the pages show is true: paths exist, policies check, commands parse, output and code are run."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from constraintc.main import VERBS, build_parser, build_parsers, flags_of, main
from constraintlang import SourceFile
from constraintlang_compiler.front import check_and_lower

ROOT = Path(__file__).parents[2]
OWN = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "constraintlang/constraintlang/REFERENCE.md")
PAGES = [ROOT / name for name in OWN] + sorted((ROOT / "docs").glob("*.md"))
FENCE = re.compile(r"(?:<!-- (?P<mark>\w+: [\w.]+) -->\n)?```(?P<info>[^\n]*)\n(?P<body>.*?)```", re.DOTALL)
TINY = {
    '"gpt2"': '"tiny"',
    "max_steps=500": "max_steps=1, per_device_train_batch_size=4, SMALL",
    "max_steps=200": "max_steps=2, use_cpu=True, bf16=False, report_to='none', per_device_train_batch_size=4",
    "rounds=8": "SMALL",
    "rounds=4": "SMALL",
    '{"max_steps": 500}': 'dict(max_steps=1, per_device_train_batch_size=4, SMALL, report_to="none")',
    "SMALL": "rounds=1, anchor='start', anchor_samples=64, control_samples=32, auxiliary_steps=3, "
    "max_new_tokens=4",
    "max_new_tokens=64": "max_new_tokens=4",
    "max_draws=32": "max_draws=2",
    '"search_budget": 256, "max_new_tokens": 64': '"search_budget": 8, "max_new_tokens": 4',
}


class Block(NamedTuple):
    """A fenced block: the page, the word after the fence, its text, and the mark in the comment above it."""

    page: str
    info: str
    body: str
    mark: str


def blocks() -> Iterator[Block]:
    for page in PAGES:
        for found in FENCE.finditer(page.read_text(encoding="utf-8")):
            yield Block(page.name, found["info"], found["body"], found["mark"] or "")


BLOCKS = list(blocks())
POLICIES = [block for block in BLOCKS if block.info.split(" ")[0] == "policy"]
CONSOLES = [block for block in BLOCKS if block.info == "console"]
SNIPPETS = [block for block in BLOCKS if block.info == "python"]


def commands() -> Iterator[tuple[str, list[str]]]:
    """(where, words) of every `constraintc` line in shell and console blocks and the examples of --help."""
    texts = [(b.page, b.body.replace("\n$ ", "\n")) for b in BLOCKS if b.info in ("sh", "console")]
    for verb in VERBS:
        epilog = importlib.import_module(f"constraintc.commands.{verb}").EPILOG
        texts.append((f"{verb} --help", re.sub(r"(?<=\S)   +.*", "", epilog)))
    for where, text in texts:
        for line in text.replace("\\\n", " ").splitlines():
            if line.strip().removeprefix("$ ").startswith("constraintc "):
                words = shlex.split(line.strip().removeprefix("$ ").partition(" < ")[0])
                yield where, words[1:]


COMMANDS = list(commands())


def test_there_is_something_to_check() -> None:
    assert len(PAGES) >= 8
    assert len(POLICIES) >= 4
    assert len(CONSOLES) >= 3
    assert len(SNIPPETS) >= 2
    assert len(COMMANDS) >= 30


# ------------------------------------------------------------------ paths and links
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_paths_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    folders = {path.name for path in ROOT.iterdir() if path.is_dir()} - {"runs"}
    for name in re.findall(r"`([\w./-]+)`", text):
        if name.split("/")[0] in folders and "/" in name:
            assert (ROOT / name).exists(), f"{page.name} names `{name}`"
        elif page.name == "method.md" and name.endswith(".py"):
            assert (ROOT / "runtime" / "constraintlang_runtime" / name).exists(), f"method.md names `{name}`"


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
            if target.startswith("https://"):
                continue
            name, _, anchor = target.partition("#")
            linked = (page.parent / name) if name else page
            assert linked.exists(), f"{page.name} links to {target}"
            titles = (
                re.findall(r"^#+ (.*)$", linked.read_text(encoding="utf-8"), re.MULTILINE) if anchor else []
            )
            anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
            assert not anchor or anchor in anchors, f"{page.name} links to {target}"


def in_order(page: Path) -> list[str]:
    """The titles of a page's groups and sections, as they come."""
    return re.findall(r"^###? (.*)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)


@pytest.mark.parametrize("name", ["how-to", "how-to-verify"])
def test_contents_link_every_section(name: str) -> None:
    page = ROOT / "docs" / f"{name}.md"
    text = page.read_text(encoding="utf-8")
    contents = text[: text.index("\n## ")]
    assert len(in_order(page)) > 10
    assert re.findall(r"\]\(#([^)]*)\)", contents) == [
        re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in in_order(page)
    ]


def test_glossary_is_sorted_and_of_words_in_use() -> None:
    """Each row has one or two sentences and a link, and its word stands on another page."""
    page = ROOT / "docs" / "glossary.md"
    rows = re.findall(
        r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", page.read_text(encoding="utf-8"), re.MULTILINE
    )[1:]
    words = [word.strip() for word, _, _ in rows]
    assert words == sorted(words, key=str.lower)
    others = " ".join(other.read_text(encoding="utf-8").lower() for other in PAGES if other != page)
    for word, meaning, more in rows:
        assert re.search(r"\[[^\]]+\]\([^)]+\)", more), f"no page treats `{word}`"
        assert meaning.count(". ") <= 2, f"`{word}` is explained at length"
        for name in word.split(", "):
            assert name.lower() in others, f"no page says `{name}`"


# ------------------------------------------------------------------ policies
@pytest.mark.parametrize("block", POLICIES, ids=lambda block: block.page)
def test_policies_check_as_written(block: Block, tmp_path: Path) -> None:
    write_policies(block.page, tmp_path)
    folder = tmp_path if "import " in block.body else None  # word lists are shown, not shipped
    found = check_and_lower(SourceFile(block.body, "shown.policy", folder)).diagnostics
    shown = (
        ("error",) if block.page == "REFERENCE.md" else ("error", "warning")
    )  # it shows what is not trained on, too
    codes = {finding.code for finding in found if finding.severity in shown}
    assert codes == set(block.info.split(" ")[2:])


def write_policies(page: str, folder: Path) -> None:
    for block in POLICIES:
        if block.page == page and block.mark.startswith("file: "):
            (folder / block.mark.removeprefix("file: ")).write_text(block.body, encoding="utf-8")


@pytest.mark.parametrize("block", CONSOLES, ids=lambda block: block.body.splitlines()[0])
def test_shown_output_is_real(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_policies(block.page, tmp_path)
    monkeypatch.chdir(tmp_path)
    command, _, shown = block.body.partition("\n")
    main(shlex.split(command.removeprefix("$ constraintc ")))
    captured = capsys.readouterr()
    assert (captured.out + captured.err).strip() == shown.strip()


# ------------------------------------------------------------------ commands
def test_every_verb_is_documented() -> None:
    shown = {words[0] for where, words in COMMANDS if not where.endswith("--help")}
    named = " ".join(page.read_text(encoding="utf-8") for page in PAGES)
    for verb in VERBS:
        assert verb in shown or f"`constraintc {verb}" in named, f"no page shows `constraintc {verb}`"


@pytest.mark.parametrize(
    ("where", "words"), COMMANDS, ids=lambda value: value if isinstance(value, str) else None
)
def test_commands_parse(where: str, words: list[str]) -> None:
    args, extra = build_parser(words[0]).parse_known_args(words)
    assert args.verb == words[0]
    if extra:
        from constraintlang_runtime.config import ConstraintConfig
        from constraintlang_runtime.run_settings import defaults, parse_flags

        assert args.takes_settings
        assert set(parse_flags(extra)) <= set(defaults(ConstraintConfig))


def test_a_wrong_flag_would_be_seen() -> None:
    _, extra = build_parser("eval").parse_known_args(
        ["eval", "p", "--model", "m", "--prompts", "p", "--nonsense"]
    )
    assert extra == ["--nonsense"]


@pytest.mark.parametrize("verb", VERBS)
def test_help_has_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^examples?:\n  constraintc ", out, re.MULTILINE)
    assert any(where == f"{verb} --help" and words[0] == verb for where, words in COMMANDS)
    parser = build_parsers(verb)[1]
    assert parser is not None
    for action in parser._actions:
        assert action.help, f"`{verb}` has an option without help: {action.dest}"


def test_the_lock_names_the_verbs_that_keep_it() -> None:
    def flags(verb: str) -> set[str]:
        parser = build_parsers(verb)[1]
        return set() if parser is None else set(flags_of(parser))

    said = importlib.import_module("constraintc.commands.lock").HELP.partition("With --locked, ")[2]
    keep = {verb for verb in VERBS if "--locked" in flags(verb)}
    assert keep == set(re.findall(r"`(\w+)`", said.partition("refuse")[0])) != set()


# ------------------------------------------------------------------ settings, code
@pytest.mark.parametrize("page", ["settings", "standard-library", "estimate", "api"])
def test_written_pages_are_up_to_date(page: str) -> None:
    name = f"make_{page.replace('-', '_')}"
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8") == module.render(), (
        f"run: python docs/{name}.py"
    )


@pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true but no accelerator is found")
@pytest.mark.filterwarnings("ignore:`gradient_checkpointing`:FutureWarning")  # TRL sets it
@pytest.mark.parametrize("block", SNIPPETS, ids=lambda block: block.mark)
def test_snippets_run(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The code as shown, with a tiny untrained model in the place of gpt2, and few steps and samples."""
    from constraintlang_runtime.demo import language
    from constraintlang_runtime.demo.files import write_untrained

    assert block.mark.startswith("run: ")
    write_policies(block.page, tmp_path)
    write_untrained(tmp_path / "tiny", seed=0)
    rows = [{key: row[key] for key in ("prompt", "completion")} for row in language.training_rows(0, 16)]
    for name in ("chat", "recipes", "held_out"):
        (tmp_path / f"{name}.jsonl").write_text(
            "".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8"
        )
    code = block.body
    assert '"gpt2"' in code
    for shown, used in TINY.items():
        code = code.replace(shown, used)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, block.page, "exec"), {"__name__": "snippet"})
    assert (tmp_path / "runs" / "first" / "model.safetensors").exists()
