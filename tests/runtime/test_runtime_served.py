"""A real server: ``transformers serve`` answers what eval and a judge ask. Opt-in: CONSTRAINTLANG_REAL_SERVER=1."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_models import World, read_jsonl

from constraintc.main import main
from constraintlang_runtime.loading import load_tokenizer

MISSING = [name for name in ("fastapi", "uvicorn", "openai") if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        os.environ.get("CONSTRAINTLANG_REAL_SERVER") != "1" or bool(MISSING),
        reason="a real server is not asked: set CONSTRAINTLANG_REAL_SERVER=1 and `pip install fastapi uvicorn openai`"
        f" (missing: {', '.join(MISSING) or 'none'})",
    ),
]
WAIT = 180.0


@pytest.fixture(scope="module")
def served(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Address and name of the tiny model."""
    folder = tmp_path_factory.mktemp("served") / "model"
    tokenizer = load_tokenizer(str(world.model))
    for path in world.model.iterdir():
        (folder.mkdir(exist_ok=True), (folder / path.name).write_bytes(path.read_bytes()))
    tokenizer.chat_template = "{% for turn in messages %}{{ turn['content'] }} {% endfor %}"
    tokenizer.save_pretrained(folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = (folder.parent / "log").open("w")
    command = [
        sys.executable,
        "-m",
        "transformers.cli.transformers",
        "serve",
        str(folder),
        "--port",
        str(port),
    ]
    server = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"})
    url = f"http://127.0.0.1:{port}"
    try:
        started = time.monotonic()
        while True:
            try:
                with urllib.request.urlopen(f"{url}/health", timeout=5):
                    break
            except (urllib.error.URLError, OSError):
                assert server.poll() is None, (folder.parent / "log").read_text()
                assert time.monotonic() - started < WAIT
                time.sleep(0.2)
        yield url, str(folder)
    finally:
        server.terminate()
        server.wait(30)
        log.close()


@pytest.mark.parametrize("flags", [[], ["--chat"]])
def test_a_served_model_is_judged(
    served: tuple[str, str], world: World, tmp_path: Path, flags: list[str]
) -> None:
    url, name = served
    code = main(
        ["eval", str(world.policy), "--endpoint", url, "--endpoint_model", name, "--prompts",
         f"chat={world.prompts}", "--num_prompts", "12", "--max_new_tokens", "10", "--quiet", "--output",
         str(tmp_path / "out"), *flags]
    )  # fmt: skip
    assert code in (0, 1)
    (clause,) = json.loads((tmp_path / "out" / "verdict.json").read_text())["clauses"]
    assert clause["n"] == 12
    rows = read_jsonl(tmp_path / "out" / "completions.jsonl")
    assert len(rows) == 12
    assert all(1 <= len(row["completion"].split()) <= 10 for row in rows)
    assert len({row["completion"] for row in rows}) > 6


def test_a_judge_that_babbles_has_no_scores(served: tuple[str, str], tmp_path: Path) -> None:
    """The tiny model writes no JSON: a score is never made of that."""
    url, name = served
    (tmp_path / "rubric.md").write_text("How rude is it?")
    (tmp_path / "p.policy").write_text(
        'edition 1\nattribute tone: score in [0, 1] { backend = judge("rubric.md") }\ntone < 0.5\n'
    )
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    code = main(
        ["eval", str(tmp_path / "p.policy"), "--completions", str(tmp_path / "rows.jsonl"), "--judge_url", url,
         "--judge_model", name, "--score_cache", "off", "--quiet", "--output", str(tmp_path / "out")]
    )  # fmt: skip
    assert code == 4
    (clause,) = json.loads((tmp_path / "out" / "verdict.json").read_text())["clauses"]
    assert (clause["verdict"], clause["unavailable"]) == ("error", 1)
