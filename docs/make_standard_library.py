"""Write docs/standard-library.md from the policies themselves: ``python docs/make_standard_library.py``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from constraintlang import nodes as n
from constraintlang import parse
from constraintlang.constants import LetValues, substitute
from constraintlang.prelude import load_prelude
from constraintlang.printer import format_statement
from constraintlang.report import Report
from constraintlang.source import SourceFile
from constraintlang.tree import dotted, names_in
from constraintlang_policies.library import std_names, std_path, std_summary

PAGE = Path(__file__).parent / "standard-library.md"
HEAD = """# The standard library

<!-- Written by docs/make_standard_library.py; edit the policies, not this page. -->

Policies to import or to copy. `import "std/NAME.policy" as alias` brings the attributes and constants, under
`alias.name`; the demands stand in your own policy. `constraintc init --from std/NAME` copies the whole policy,
demands and tests, to be changed. Every policy stands with texts that it accepts and texts that it rejects, and the
tests of the project judge all of them with the scorers that a run uses.

```sh
constraintc init --list
constraintc init --from std/no_pii experiments/first
```

```policy
edition 1
import "std/no_pii.policy" as pii
import "std/refusals.policy" as style
private: always not pii.card and not pii.iban and pii.emails <= pii.sample_emails
brief:   style.refusal implies words <= style.max_words
```

`bound with --scorer` says that the choice is yours; a classifier that is named can be replaced in the same way. Only
safetensors weights are loaded; pin a revision in your copy with `revision="..."`. Word lists are English unless they
say otherwise; copy one with `constraintc init --from std/lists/insults.txt` to extend it.
"""
Demand = tuple[n.Statement, Sequence[n.Clause]]


def demands_in(items: Sequence[n.Item], outer: Sequence[n.Clause] = ()) -> Iterator[Demand]:
    """The statements of a file, each with the clauses of its groups."""
    for item in items:
        if isinstance(item, n.Group):
            yield from demands_in(item.items, (*outer, *item.clauses))
        elif isinstance(item, n.Statement):
            yield item, outer


def kind_of(attribute: n.Attribute) -> tuple[str, str]:
    """What measures an attribute: for the overview, and in full."""
    for entry in attribute.fields:
        if entry.name == "backend" and isinstance(entry.value, n.Call):
            call = entry.value
            if call.function == "lexicon":
                return "word lists", f"words of `{call.arguments[0].value}`"
            if call.function == "classifier":
                label = dict(call.keywords)["label"].value
                return "classifier", f"classifier `{call.arguments[0].value}`, label `{label}`"
            if call.function == "length":
                return "length", f"length in {call.arguments[0].value}"
            if call.function == "json":
                return "parser", "parser of JSON"
            return "regular expressions", "regular expression"
    return "`--scorer`", "bound with `--scorer`"


class Described:
    """A standard policy, ready to be shown."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.text = std_path(f"std/{name}.policy").read_text(encoding="utf-8")
        policy, _ = parse(SourceFile(self.text, name))
        self.demands = list(demands_in(policy.items))
        self.constants = LetValues(
            {i.name: i for i in policy.items if isinstance(i, n.Let)}, Report()
        ).decimals
        declared = [item for item in policy.items if isinstance(item, n.Attribute)]
        used = {dotted(found) for demand, _ in self.demands for found in names_in(demand.formula)}
        names = {attribute.name for attribute in declared}
        known = load_prelude(1).attributes
        prelude = [
            n.Attribute(name=key, type=info.type, fields=_fields(info.backend))
            for key, info in known.items()
            if key in used - names
        ]
        self.attributes = declared + prelude

    @property
    def backends(self) -> str:
        """Kinds of backends, for the overview."""
        return ", ".join(sorted({kind_of(attribute)[0] for attribute in self.attributes}))

    @property
    def remarks(self) -> list[str]:
        """The comment at the top without its first line."""
        top = self.text.split("\nedition 1", 1)[0].split("\n")[1:]
        return [line[1:].strip() for line in top if line[1:].strip()]

    def section(self) -> list[str]:
        """The part of the page about this policy."""
        lines = [f"## {self.name}", "", std_summary(self.name), ""]
        lines += [*self.remarks, ""] if self.remarks else []
        lines += ["| label | demand |", "|---|---|"]
        for demand, outer in self.demands:
            shown = n.Statement(
                formula=substitute(demand.formula, self.constants),
                strength=demand.strength,
                always=demand.always,
                clauses=(*outer, *demand.clauses),
            )
            lines.append(f"| `{demand.label}` | `{format_statement(shown)}` |")
        lines += ["", "| attribute | type | measured by |", "|---|---|---|"]
        lines += [f"| `{a.name}` | {a.type} | {kind_of(a)[1]} |" for a in self.attributes]
        return [*lines, ""]


def _fields(backend: n.Call | None) -> tuple[n.Field, ...]:
    return () if backend is None else (n.Field(name="backend", value=backend),)


def render() -> str:
    """The whole page."""
    policies = [Described(name) for name in std_names()]
    lines = [HEAD, "| policy | what it demands | measured by |", "|---|---|---|"]
    lines += [f"| [{p.name}](#{p.name}) | {std_summary(p.name)} | {p.backends} |" for p in policies]
    lines.append("")
    for policy in policies:
        lines += policy.section()
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
