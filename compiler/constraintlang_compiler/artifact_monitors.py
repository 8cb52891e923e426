"""The automata of a compiled policy on disk: ``dfa/HASH.json``, named by the hash of its content."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from constraintlang_compiler.attributes import overs_of, predicates_of
from constraintlang_compiler.ir import Clause, Over
from constraintlang_compiler.ir_monitors import TraceAutomaton
from constraintlang_compiler.monitors.budget import MAX_POLICY_STEPS, MAX_TRACE_STEPS, BudgetExceeded

FOLDER = "dfa"
# Both senses of all conditions, with the one that a compiler still makes when its steps are used up.
MAX_LOADED_STEPS = 2 * (MAX_POLICY_STEPS + MAX_TRACE_STEPS)
_NAME = re.compile(r"[0-9a-f]{64}\.json")


def monitors(clauses: Iterable[Clause]) -> dict[str, TraceAutomaton]:
    """The automaton of every ``over``, by its hash."""
    from constraintlang_compiler.monitors.trace_monitors import trace_monitor

    return {over.monitor: trace_monitor(over.formula, over.empty).record() for over in _overs(clauses)}


def write_monitors(folder: Path, clauses: Iterable[Clause], write: Callable[[Path, bytes], None]) -> None:
    """Write the files, and remove those of an earlier policy."""
    found: dict[Path, bytes] = {}
    for over in _overs(clauses):
        from constraintlang_compiler.monitors.trace_monitors import trace_monitor

        found[_file(folder, over.monitor)] = trace_monitor(over.formula, over.empty).content + b"\n"
    for old in (folder / FOLDER).glob("*.json"):
        if _NAME.fullmatch(old.name) and old not in found:
            old.unlink()
    for path, content in found.items():
        path.parent.mkdir(exist_ok=True)
        write(path, content)


def monitor_problems(folder: Path, clauses: Iterable[Clause]) -> Iterator[str]:
    """What is wrong with the automata of a compiled policy: each is made again from its formula and compared."""
    steps = 0
    for over in dict.fromkeys(_overs(clauses)):
        from constraintlang_compiler.monitors.trace_monitors import trace_monitor

        if steps > MAX_LOADED_STEPS:
            yield f"its automata take more than {MAX_LOADED_STEPS:,} steps of work"
            return
        path = _file(folder, over.monitor)
        try:
            monitor = trace_monitor(over.formula, over.empty)
        except BudgetExceeded as error:
            yield f"an automaton takes {error}"
            continue
        steps += monitor.steps
        content = monitor.content + b"\n"
        if monitor.hash != over.monitor:
            yield f"a formula has the automaton {monitor.hash}, the file says {over.monitor}"
        elif not path.is_file():
            yield f"`{FOLDER}/{path.name}` is missing"
        elif path.stat().st_size != len(content) or path.read_bytes() != content:
            yield f"`{FOLDER}/{path.name}` is not the automaton of its formula"


def _overs(clauses: Iterable[Clause]) -> Iterator[Over]:
    return overs_of(predicate for clause in clauses for predicate in predicates_of(clause))


def _file(folder: Path, key: str) -> Path:
    return folder / FOLDER / f"{key.removeprefix('sha256:')}.json"
