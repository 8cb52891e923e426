"""Compiled policies are the same bytes under every Python: ``python benchmarks/determinism/run.py python3.12 ...``.

Without arguments it prints, for every example and standard policy, the hashes of what compiling it gives under the
Python that runs it. With interpreters it runs itself under this Python and each of them, with different hash seeds and
from different folders, compares, and writes ``results/determinism.json``. The interpreters need the base dependencies.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("constraintlang", "compiler", "policies")
RESULT = Path(__file__).parent / "results" / "determinism.json"


def hashes(folders: list[Path]) -> dict[str, dict[str, str]]:
    """What compiling each policy of the folders gives; those that this release does not compile are left out."""
    from constraintlang_compiler.canonical import canonical_bytes, record_json
    from constraintlang_compiler.emit import canonical_policy
    from constraintlang_compiler.pipeline import compile_with_diagnostics
    from constraintlang_compiler.sources import read_source

    found = {}
    for path in sorted(path for folder in folders for path in folder.glob("*.policy")):
        policy = compile_with_diagnostics(read_source(path)).policy
        if policy is None:
            continue
        document = policy.ir_json()
        assert isinstance(document, dict)
        del document["tool"]  # the installed version, which is not part of what the policy means
        found[f"{path.parent.name}/{path.stem}"] = {
            "semantic_hash": policy.semantic_hash,
            "ir": _sha256(canonical_bytes(document)),
            "map": _sha256(canonical_bytes(record_json(policy.map))),
            "canonical_text": _sha256(canonical_policy(policy.ir).encode()),
        }
    return found


def shipped() -> list[Path]:
    """The folders of the examples and of the standard library."""
    from constraintlang_policies.library import FOLDER

    return [FOLDER / "examples", FOLDER / "std"]


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def run_under(python: str, seed: int, cwd: str) -> dict[str, object]:
    """The version of an interpreter and the hashes that it finds."""
    path = os.pathsep.join(str(ROOT / package) for package in PACKAGES)
    done = subprocess.run(
        [python, str(Path(__file__).resolve())],
        env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": str(seed)},
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"{python}: {done.stderr}")
    return dict(json.loads(done.stdout))


def compare(pythons: list[str]) -> int:
    """Run under each interpreter, write the result; 1 when any hash differs."""
    with tempfile.TemporaryDirectory() as elsewhere:
        runs = [run_under(python, 7 * index, elsewhere) for index, python in enumerate(pythons)]
    equal = all(run["hashes"] == runs[0]["hashes"] for run in runs)
    result = {"python": [run["python"] for run in runs], "equal": equal, "hashes": runs[0]["hashes"]}
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"{', '.join(str(run['python']) for run in runs)}: {'equal' if equal else 'DIFFERENT'}")
    return int(not equal)


if __name__ == "__main__":
    if sys.argv[1:]:
        sys.exit(compare([sys.executable, *sys.argv[1:]]))
    print(json.dumps({"python": platform.python_version(), "hashes": hashes(shipped())}, indent=1))
