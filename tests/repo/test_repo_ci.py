"""``.ci/run`` and the browser: installed where it can be, and never the reason why a run fails."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from headless_chromium import NAMES, find_chromium

ROOT = Path(__file__).parents[2]
TOOLS = ("bash", "sh", "env", "dirname", "timeout", "tail", "touch", "cp", "chmod", "cat")
BROWSER = "#!/bin/sh\necho Chromium 1\n"
STUB = "#!/bin/sh\necho 'this needs the snap'; exit 1\n"


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder of tools, the only one on the path; ``make`` writes down that it was called."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in TOOLS:
        path = shutil.which(name)
        assert path is not None
        (folder / name).symlink_to(path)
    write(folder / "id", "#!/bin/sh\necho 0\n")
    write(folder / "make", f'#!/bin/sh\necho "$@" > {tmp_path}/made; exit ${{MAKE_CODE:-0}}\n')
    return folder


def write(path: Path, content: str) -> None:
    path.write_text(content)
    path.chmod(0o755)


def run(tools: Path, **variables: str) -> tuple[int, str]:
    done = subprocess.run(
        [tools / "bash", ROOT / ".ci" / "run", "A=1"],
        env={"PATH": str(tools), **variables}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (tools.parent / "made").read_text() == "test A=1\n"
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_a_browser_that_is_there_is_used(tools: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tools / "apt-get", f"#!/bin/sh\ntouch {tools}/asked\n")
    write(tools / name, BROWSER)
    code, said = run(tools)
    assert (code, "Chromium is here" in said) == (0, True)
    assert not (tools / "asked").exists()
    monkeypatch.setenv("PATH", str(tools))
    assert find_chromium() == str(tools / name)


def test_a_browser_that_is_absent_is_installed(tools: Path) -> None:
    write(tools / "chromium-browser", STUB)  # found, but no browser
    write(tools / "kept", BROWSER)
    write(tools / "apt-get", f'#!/bin/sh\ncase "$*" in *install*) cp {tools}/kept {tools}/chromium;; esac\n')
    code, said = run(tools)
    assert (code, "Chromium was installed" in said) == (0, True)


@pytest.mark.parametrize("why", ["apt-get fails", "it installs nothing", "no root", "no apt-get"])
def test_without_one_the_run_goes_on_and_says_so(
    tools: Path, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tools / "chromium", STUB)
    if why != "no apt-get":
        write(tools / "apt-get", f"#!/bin/sh\necho no network; exit {100 if why == 'apt-get fails' else 0}\n")
    if why == "no root":
        write(tools / "id", "#!/bin/sh\necho 1000\n")
    code, said = run(tools)
    assert (code, "WARNING: no Chromium" in said, "SKIPPED" in said) == (0, True, True)
    monkeypatch.setenv("PATH", str(tools))
    assert find_chromium() is None


def test_the_code_of_the_checks_is_that_of_the_run(tools: Path) -> None:
    write(tools / "chromium", BROWSER)
    assert run(tools, MAKE_CODE="2")[0] == 2
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
