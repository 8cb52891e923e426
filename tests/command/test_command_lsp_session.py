"""A session with `constraintc lsp`, spoken by a client of our own over the pipes of the process."""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lsp_client import LspClient, Refusal

from constraintc.exit_codes import ExitCode
from constraintc.main import main

pytest.importorskip("pygls", reason="the extra `lsp` is not installed")

URI = "file:///policies/my.policy"
TEXT = """edition 1
let cap = 0.1
attribute grade: real in [0, 10] higher_is_better { backend = python("acme:grade") }
domain chat { source = jsonl("a.jsonl"), tags = {lang} }
tag lang in {en, de}
polite: toxicity < cap for domain=chat and lang in {en}  # 😀
typo: mean(toxcity) < cap
easy: mean(grade) >= 2 under temperature=1
"""


@pytest.fixture(scope="module")
def session() -> Iterator[LspClient]:
    """One session for all tests; it has to end as the protocol asks."""
    with LspClient() as client:
        result = client.initialize()
        assert result["serverInfo"]["name"] == "constraintc"
        assert result["capabilities"]["positionEncoding"] == "utf-16"
        yield client
        assert client.end() == 0


@pytest.fixture
def opened(session: LspClient) -> Iterator[LspClient]:
    """The session with the text above open, and its findings read."""
    session.open(URI, TEXT)
    yield session
    session.notify("textDocument/didClose", {"textDocument": {"uri": URI}})
    assert session.findings(URI, None) == []


def place(text: str, needle: str, offset: int = 0) -> dict[str, int]:
    """Line and character of the first occurrence of a text; the texts before it on its line are ASCII."""
    start = text.index(needle) + offset
    line = text.count("\n", 0, start)
    return {"line": line, "character": start - (text.rfind("\n", 0, start) + 1)}


def at(needle: str, offset: int = 0, text: str = TEXT) -> dict[str, Any]:
    return {"textDocument": {"uri": URI}, "position": place(text, needle, offset)}


def under(place: dict[str, Any], text: str = TEXT) -> str:
    """The text of a range within one line."""
    line = text.split("\n")[place["start"]["line"]]
    assert place["start"]["line"] == place["end"]["line"]
    return line[place["start"]["character"] : place["end"]["character"]]


def applied(text: str, edits: list[dict[str, Any]]) -> str:
    """A text with edits of an editor made; for ASCII before each place."""
    starts = [0]
    for line in text.split("\n"):
        starts.append(starts[-1] + len(line) + 1)
    for edit in sorted(edits, key=lambda e: (e["range"]["start"]["line"], e["range"]["start"]["character"]))[
        ::-1
    ]:
        first, last = (
            starts[edit["range"][end]["line"]] + edit["range"][end]["character"] for end in ("start", "end")
        )
        text = text[:first] + edit["newText"] + text[last:]
    return text


# ------------------------------------------------------------------ findings
def test_findings_come_when_a_file_is_opened(session: LspClient) -> None:
    found = session.open(URI, TEXT)
    assert [(d["code"], d["severity"], under(d["range"])) for d in found] == [
        ("PC404", 4, "toxicity < cap"),
        ("PC101", 1, "toxcity"),
    ]
    assert found[1]["message"].startswith(
        "no attribute named `toxcity` (a similar attribute exists: `toxicity`"
    )
    assert "help: write `toxicity`" in found[1]["message"]


def test_findings_follow_the_text(opened: LspClient) -> None:
    better = TEXT.replace("toxcity", "toxicity")
    opened.change(URI, 2, better)
    assert [d["code"] for d in opened.findings(URI, 2)] == ["PC404"]
    opened.change(URI, 3, better.replace("edition 1", "edition 1\nlet cap = 3"))
    (again,) = (d for d in opened.findings(URI, 3) if d["code"] == "PC111")
    (first,) = again["relatedInformation"]
    assert first["message"] == "first used here"
    assert first["location"]["uri"] == URI
    assert first["location"]["range"]["start"] == {"line": 1, "character": 4}


def test_columns_are_counted_as_the_editor_counts(session: LspClient) -> None:
    text = 'a: toxicity < 1 because "😀é" nonsense\n'
    assert len("😀") == 1
    (found,) = (d for d in session.open(URI, text) if d["severity"] == 1)
    start = found["range"]["start"]["character"]
    assert text.encode("utf-16-le")[2 * start :].decode("utf-16-le").startswith("nonsense")
    with LspClient() as client:
        assert client.initialize(("utf-8", "utf-16"))["capabilities"]["positionEncoding"] == "utf-8"
        (found,) = (d for d in client.open(URI, text) if d["severity"] == 1)
        assert text.encode()[found["range"]["start"]["character"] :].decode().startswith("nonsense")
        client.notify("exit")  # without a shutdown before it, which is exit code 1 by the protocol
        assert client.process.wait(30) == 1


def test_the_last_of_many_quick_changes_is_the_last_that_is_reported(opened: LspClient) -> None:
    for version in range(2, 40):
        opened.change(URI, version, TEXT + "x" * version)
    reported = [0]
    while reported[-1] != 39:
        reported.append(opened.notification("textDocument/publishDiagnostics")["version"])
    assert reported == sorted(set(reported))


def test_a_finding_in_an_imported_file_is_shown_at_the_import(session: LspClient, tmp_path: Path) -> None:
    (tmp_path / "near.policy").write_text('edition 1\n# é\nimport "sub/far.policy" as far\n')
    (tmp_path / "sub").mkdir()
    far = tmp_path / "sub" / "far.policy"
    far.write_text("edition 1\n\nattribute a: scor\n")
    text = 'edition 1\nimport "std/safety.policy" as safety\nimport "near.policy" as near\nalways words < 9\n'
    uri = (tmp_path / "my.policy").as_uri()
    (found,) = session.open(uri, text)
    assert (found["code"], under(found["range"], text)) == ("PC115", 'import "near.policy" as near')
    assert found["message"].startswith("in `far.policy`, line 3: no type of attributes is called `scor`")
    (related,) = found["relatedInformation"]
    assert related["location"]["uri"] == far.as_uri()
    assert related["location"]["range"] == {
        "start": {"line": 2, "character": 13},
        "end": {"line": 2, "character": 17},
    }
    session.notify("textDocument/didClose", {"textDocument": {"uri": uri}})


# ------------------------------------------------------------------ what there is to say
def test_hover(opened: LspClient) -> None:
    result = opened.request("textDocument/hover", at("toxicity < cap", 3))
    text = result["contents"]["value"]
    assert result["contents"]["kind"] == "markdown"
    assert "`attribute toxicity: score in [0, 1] lower_is_better`" in text
    assert "**polite**: pointwise" in text
    assert "Of the responses to prompts with domain=chat and lang=en, at most 5% may have" in text
    assert under(result["range"]) == "toxicity"
    assert (
        opened.request("textDocument/hover", {"textDocument": {"uri": URI}, "position": place(TEXT, "# ", 1)})
        is None
    )


def test_inlay_hints(opened: LspClient) -> None:
    everything = {"start": {"line": 0, "character": 0}, "end": {"line": 99, "character": 0}}
    hints = opened.request("textDocument/inlayHint", {"textDocument": {"uri": URI}, "range": everything})
    assert [(hint["label"], hint["position"]) for hint in hints] == [
        ("pointwise, tolerance 5%", place(TEXT, " for domain=chat")),
        ("distribution", place(TEXT, " under temperature")),
    ]
    first_line = {"start": {"line": 0, "character": 0}, "end": {"line": 1, "character": 0}}
    assert opened.request("textDocument/inlayHint", {"textDocument": {"uri": URI}, "range": first_line}) == []


def test_symbols(opened: LspClient) -> None:
    symbols = opened.request("textDocument/documentSymbol", {"textDocument": {"uri": URI}})
    assert [symbol["name"] for symbol in symbols] == [
        "edition 1", "cap", "grade", "chat", "lang", "polite", "typo", "easy",
    ]  # fmt: skip


def test_definition_and_references(opened: LspClient) -> None:
    (definition,) = opened.request("textDocument/definition", at("< cap for", 2))
    assert under(definition["range"]) == "cap"
    assert definition["range"]["start"]["line"] == 1
    params = at("let cap", 4)
    uses = opened.request("textDocument/references", {**params, "context": {"includeDeclaration": False}})
    assert [use["range"]["start"]["line"] for use in uses] == [5, 6]
    assert len(opened.request("textDocument/documentHighlight", params)) == 3
    assert opened.request("textDocument/definition", at("toxicity < cap")) == []  # it is in the prelude


def test_semantic_tokens(opened: LspClient) -> None:
    data = opened.request("textDocument/semanticTokens/full", {"textDocument": {"uri": URI}})["data"]
    line = column = 0
    found = []
    for index in range(0, len(data), 5):
        delta_line, delta_column, length = data[index : index + 3]
        column = delta_column if delta_line else column + delta_column
        line += delta_line
        found.append(TEXT.split("\n")[line][column : column + length])
    assert found[:5] == ["edition", "1", "let", "cap", "0.1"]
    assert {"grade", "real", "higher_is_better", "toxicity", "polite", "mean", "temperature"} & set(found) == {
        "grade", "real", "higher_is_better", "toxicity", "polite", "mean",
    }  # fmt: skip


def test_a_name_of_an_imported_file_leads_there(session: LspClient, tmp_path: Path) -> None:
    lists = tmp_path / "lists.policy"
    lists.write_text("edition 1\nattribute rude: score in [0, 1]\n")
    text = 'edition 1\nimport "lists.policy" as l\na: always l.rude < 0.1\n'
    uri = (tmp_path / "my.policy").as_uri()
    assert session.open(uri, text) == []
    params = {"textDocument": {"uri": uri}, "position": place(text, "rude")}
    (definition,) = session.request("textDocument/definition", params)
    assert definition["uri"] == lists.as_uri()
    assert definition["range"]["start"] == {"line": 1, "character": 0}
    # What is saved elsewhere is seen here.
    lists.write_text("edition 1\nattribute ruder: score in [0, 1]\n")
    session.notify("textDocument/didSave", {"textDocument": {"uri": lists.as_uri()}})
    assert [d["code"] for d in session.findings(uri, 1)] == ["PC101"]
    session.notify("textDocument/didClose", {"textDocument": {"uri": uri}})


def test_tests_are_run_from_above_their_block(opened: LspClient) -> None:
    text = TEXT.replace("typo: mean(toxcity) < cap\n", "") + (
        'test "rude" for domain=chat and lang=en {\n  given toxicity = 0.9\n  fail on polite\n}\n'
        'test "sample" {\n  given grade = [1, 2, 9]\n  holds on easy\n}\n'
    )
    opened.change(URI, 2, text)
    assert [d["severity"] for d in opened.findings(URI, 2)] == [4]
    lenses = opened.request("textDocument/codeLens", {"textDocument": {"uri": URI}})
    assert [(lens["command"]["title"], under(lens["range"], text)) for lens in lenses] == [
        ("Run test", "test")
    ] * 2
    said = []
    for lens in lenses:
        command = {"command": lens["command"]["command"], "arguments": lens["command"]["arguments"]}
        result = opened.request("workspace/executeCommand", command)
        shown = opened.notification("window/showMessage")
        assert shown["message"] == result
        said.append((shown["type"], result))
    assert said[0] == (3, "`rude`: 1 passed")
    assert said[1][0] == 2
    assert said[1][1].startswith("`sample`: 1 failed\nline ")
    opened.change(URI, 3, text + "a <")
    command = {"command": "constraintc.runTest", "arguments": [URI, "rude"]}
    assert "has errors" in opened.request("workspace/executeCommand", command)


# ------------------------------------------------------------------ what can be changed
def test_completion(opened: LspClient) -> None:
    text = TEXT + "new: tox"
    opened.change(URI, 2, text)
    items = opened.request("textDocument/completion", at("new: tox", 8, text))["items"]
    toxicity = next(item for item in items if item["label"] == "toxicity")
    assert toxicity["detail"] == "score in [0, 1] lower_is_better"
    assert under(toxicity["textEdit"]["range"], text) == "tox"
    mean = next(item for item in items if item["label"] == "mean")
    assert (mean["textEdit"]["newText"], mean["insertTextFormat"]) == ("mean($1)", 2)


def test_rename(opened: LspClient) -> None:
    fixed = TEXT.replace("toxcity", "toxicity")
    opened.change(URI, 2, fixed)
    params = at("< cap for", 3)
    assert under(opened.request("textDocument/prepareRename", params)) == "cap"
    result = opened.request("textDocument/rename", {**params, "newName": "limit"})
    assert applied(fixed, result["changes"][URI]) == fixed.replace("cap", "limit")
    for name, reason in (("in", "reserved word"), ("grade", "already in use"), ("a b", "no name")):
        with pytest.raises(Refusal, match=reason):
            opened.request("textDocument/rename", {**params, "newName": name})
    with pytest.raises(Refusal, match="not declared in this file"):
        opened.request("textDocument/prepareRename", at("toxicity < cap"))


def test_code_action(opened: LspClient) -> None:
    where = {"start": place(TEXT, "toxcity"), "end": place(TEXT, "toxcity")}
    params = {"textDocument": {"uri": URI}, "range": where, "context": {"diagnostics": []}}
    (action,) = opened.request("textDocument/codeAction", params)
    assert (action["title"], action["kind"], action["isPreferred"]) == ("Write `toxicity`", "quickfix", True)
    assert action["diagnostics"][0]["code"] == "PC101"
    assert applied(TEXT, action["edit"]["changes"][URI]) == TEXT.replace("toxcity", "toxicity")
    other = {**params, "context": {"diagnostics": [], "only": ["refactor"]}}
    assert opened.request("textDocument/codeAction", other) == []


def test_formatting(opened: LspClient) -> None:
    untidy = TEXT.replace("let cap = 0.1", "let cap=(0.10)").replace("  # 😀", "    # 😀")
    opened.change(URI, 2, untidy)
    options = {"tabSize": 2, "insertSpaces": True}
    params = {"textDocument": {"uri": URI}, "options": options}
    edits = opened.request("textDocument/formatting", params)
    assert applied(untidy, edits) == TEXT
    assert [edit["range"]["start"]["line"] for edit in edits] == [1, 5]  # only the lines that differ
    opened.change(URI, 3, TEXT + "a <")
    assert opened.request("textDocument/formatting", params) is None


# ------------------------------------------------------------------ the process
def test_without_the_extra_the_message_names_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from constraintc.commands import lsp

    monkeypatch.setattr(lsp, "find_spec", lambda name: None if name == "pygls" else builtins.object())
    code = main(["lsp"])
    captured = capsys.readouterr()
    assert code == ExitCode.USAGE
    assert captured.out == ""
    assert "needs the package `pygls`" in captured.err
    assert "pip install 'constraintlang[lsp]'" in captured.err
