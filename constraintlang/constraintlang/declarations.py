"""What a file declares: attributes, constants, domains, tags, groups, labels; no name twice."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import count
from typing import Protocol

from constraintlang import nodes as n
from constraintlang import vocabulary as v
from constraintlang.attribute_declarations import attribute_info, field_head
from constraintlang.checked import AttributeInfo
from constraintlang.constants import LetValues
from constraintlang.diagnostics import Label
from constraintlang.fixes import Edit, Fix, inserting, removing, replacing
from constraintlang.printer import plain_text
from constraintlang.report import Report
from constraintlang.source import SourceFile, Span
from constraintlang.wording import KEYWORDS


@dataclass
class Declarations:
    """The names of a file; ``quiet`` are those that failed and must not be complained about again.

    What imports brought is among them, under qualified names; ``imports`` are the aliases and their files.
    ``source`` is the file itself where it is an imported one.
    """

    attributes: dict[str, AttributeInfo] = field(default_factory=dict)
    lets: dict[str, n.Let] = field(default_factory=dict)
    domains: dict[str, n.Domain] = field(default_factory=dict)
    tags: dict[str, n.Tag] = field(default_factory=dict)
    tag_values: dict[str, dict[str, None]] = field(default_factory=dict)
    tag_keys: set[str] = field(default_factory=set)
    labels: dict[str, n.Statement] = field(default_factory=dict)
    tested: set[str] = field(default_factory=set)
    quiet: set[str] = field(default_factory=set)
    values: LetValues = field(default_factory=lambda: LetValues({}, Report()))
    edition: int = v.EDITIONS[-1]
    imports: dict[str, str] = field(default_factory=dict)
    names_only: dict[n.Import, str] = field(default_factory=dict)
    """The aliases of the imports that brought neither domains nor tags."""
    constants: dict[str, Decimal] = field(default_factory=dict)
    source: SourceFile | None = None


class Importer(Protocol):
    """Finds what an import names (``imports.py``)."""

    def declarations_of(self, item: n.Import, report: Report) -> Declarations | None:
        """What the file declares; None when it cannot be read, which is reported."""
        ...


def collect(
    policy: n.Policy,
    report: Report,
    *,
    prelude: Declarations | None = None,
    lost_names: frozenset[str] = frozenset(),
    importer: Importer | None = None,
) -> Declarations:
    """The declarations of a policy, what is wrong with them left in ``report``."""
    found = Declarations(quiet=set(lost_names))
    if prelude is not None:
        found.attributes.update(prelude.attributes)
    collector = _Collector(found, report, prelude, importer)
    for item, in_group in walk(policy.items):
        collector.item(item, in_group)
    _check_edition(policy, report, found)
    found.values = LetValues(found.lets, report, found.quiet, found.constants)
    found.quiet |= found.values.failed
    for item, _ in walk(policy.items):
        if isinstance(item, n.Attribute) and collector.accepted.get(item.name) is item:
            info = attribute_info(item, report, found.values.fractions, from_prelude=False)
            if info is None:
                found.attributes.pop(item.name, None)
                found.quiet.add(item.name)
            else:
                found.attributes[item.name] = info
    return found


def walk(items: Iterable[n.Item], in_group: bool = False) -> Iterator[tuple[n.Item, bool]]:
    """Every item of a file, those in groups after their group; groups nest at most 200 deep."""
    stack = [(item, in_group) for item in reversed(list(items))]
    while stack:
        item, inside = stack.pop()
        yield item, inside
        if isinstance(item, n.Group):
            stack.extend((inner, True) for inner in reversed(item.items))


class _Collector:
    def __init__(
        self,
        found: Declarations,
        report: Report,
        prelude: Declarations | None,
        importer: Importer | None,
    ) -> None:
        self.found = found
        self.report = report
        self.prelude = prelude
        self.importer = importer
        self.seen: dict[tuple[str, str], Span] = {}
        self.accepted: dict[str, n.Attribute] = {}
        self.numbers: dict[str, int] = {}

    def item(self, item: n.Item, in_group: bool) -> None:
        if in_group and not isinstance(item, n.Statement | n.Group | n.Test):
            word = type(item).__name__.lower()
            message = f"`{word}` cannot stand inside a group"
            self.report.error(
                "PC110", item.span, message, "move the declaration to the top level of the file"
            )
        if isinstance(item, n.Statement) and item.label is not None:
            if self.is_new("label", item.label, item.label_span or item.span, "PC109"):
                self.found.labels[item.label] = item
        elif isinstance(item, n.Test):
            self.found.tested.update(e.on for e in item.items if isinstance(e, n.Expect) and e.on)
        elif isinstance(item, n.Let):
            if self.may_name(item.name, item.name_span or item.span):
                self.found.lets[item.name] = item
                self.found.attributes.pop(item.name, None)
        elif isinstance(item, n.Attribute):
            if self.may_name(item.name, item.name_span or item.span):
                self.accepted[item.name] = item
        elif isinstance(item, n.Domain):
            if self.is_new("domain", item.name, item.name_span or item.span):
                self.found.domains[item.name] = item
                self.domain_fields(item)
        elif isinstance(item, n.Tag):
            if self.is_new("tag", item.key, item.name_span or item.span):
                self.declare_tag(item.key, item)
                self.found.tag_keys.add(item.key)
        elif isinstance(item, n.Group) and item.name:
            self.is_new("group", item.name, item.name_span or item.span)
        elif isinstance(item, n.Import):
            self.imported(item)

    def is_new(self, kind: str, name: str, span: Span, code: str = "PC111") -> bool:
        first = self.seen.setdefault((kind, name), span)
        if first is span:
            return True
        fix = None
        if kind == "label":
            fix = replacing(span, self.free_label(name))
        self.report.error(
            code,
            span,
            f"the {kind} `{name}` is already in use",
            "give one of the two another name",
            labels=(Label(first, "first used here"),),
            fix=fix,
        )
        return False

    def free_label(self, name: str) -> str:
        """The name with a number that no label has so far; a search goes on where the last one ended."""
        numbers = count(self.numbers.get(name, 2))
        number = next(i for i in numbers if ("label", f"{name}_{i}") not in self.seen)
        self.numbers[name] = number
        return f"{name}_{number}"

    def may_name(self, name: str, span: Span) -> bool:
        if name in v.RESERVED_NAMES:
            message = f"`{name}` has a meaning of its own in the language and cannot be declared"
            self.report.error("PC112", span, message, f"choose another name, for example `my_{name}`")
            self.found.quiet.add(name)
            return False
        if not self.is_new("name", name, span):
            return False
        if self.prelude is not None and name in self.prelude.attributes:
            self.report.note(
                "PC108",
                span,
                f"`{name}` is declared here in the place of the attribute that every policy knows",
            )
        return True

    def imported(self, item: n.Import) -> None:
        alias = item.alias or item.path.rsplit("/", 1)[-1].removesuffix(".policy")
        if not alias.isascii() or not alias.isidentifier() or alias.upper() in KEYWORDS:
            message = f"`{alias}` cannot qualify names"
            self.report.error("PC112", item.span, message, "name the import, for example `as safety`")
            return
        if not self.is_new("name", alias, item.span):
            return
        file = None if self.importer is None else self.importer.declarations_of(item, self.report)
        if file is None:
            self.found.quiet.add(alias)
            return
        self.found.imports[alias] = item.path
        if not file.domains and not file.tag_keys and not file.tags:
            self.found.names_only[item] = alias
        for name in [*file.attributes, *file.values.decimals]:
            if "." not in name and not (name in file.attributes and file.attributes[name].from_prelude):
                self.bring(f"{alias}.{name}", name, item.span, file)
        self.found.quiet |= {f"{alias}.{name}" for name in file.quiet}
        for name, domain in file.domains.items():
            self.found.domains.setdefault(name, domain)
        self.found.tag_keys |= file.tag_keys
        for key, tag in file.tags.items():
            self.declare_tag(key, n.Tag(key=key, values=tag.values))  # its place is in another file

    def bring(self, qualified: str, name: str, span: Span, file: Declarations) -> None:
        if not self.is_new("name", qualified, span):
            return
        if name in file.attributes:
            info = replace(file.attributes[name], name=qualified, source=file.source)
            self.found.attributes[qualified] = info
        else:
            self.found.constants[qualified] = file.values.decimals[name]

    def declare_tag(self, key: str, tag: n.Tag) -> None:
        """Values of one tag from several files are one list: they are names in the user's data."""
        known, values = self.found.tags.get(key), self.found.tag_values.setdefault(key, {})
        if known is not None:
            new = tuple(s for s in tag.values if plain_text(s) not in values)
            tag = n.Tag(key=key, values=(*known.values, *new))
        self.found.tags[key] = tag
        values.update(dict.fromkeys(plain_text(s) for s in tag.values))

    def domain_fields(self, item: n.Domain) -> None:
        for entry in item.fields:
            if entry.name not in v.DOMAIN_FIELDS:
                self.report.unknown_word(field_head(entry), "field of a domain", entry.name, v.DOMAIN_FIELDS)
            elif entry.name == "tags":
                if isinstance(entry.value, n.SetValue):
                    self.found.tag_keys.update(plain_text(s) for s in entry.value.values)
                else:
                    self.report.error(
                        "PC117", entry.span, "`tags` takes a set", "write `tags = {lang, topic}`"
                    )


def _check_edition(policy: n.Policy, report: Report, found: Declarations) -> None:
    editions = [(i, item) for i, item in enumerate(policy.items) if isinstance(item, n.Edition)]
    for position, (index, item) in enumerate(editions):
        if item.number not in v.EDITIONS:
            known = " or ".join(f"`edition {e}`" for e in v.EDITIONS)
            report.error("PC113", item.span, f"there is no edition {item.number}", f"write {known}")
        elif position == 0 and index != 0:
            line = Edit(report.source.whole_line(item.span), "")
            fix = Fix((Edit(Span(0, 0), f"edition {item.number}\n"), line), "safe")
            message = "`edition` must be the first item of the file"
            report.error("PC110", item.span, message, "move it to the top", fix=fix)
        elif position > 0:
            same = item.number == editions[0][1].number
            fix = removing(report.source.whole_line(item.span), "safe" if same else "unsafe")
            report.error("PC111", item.span, "the edition is already given", "remove this line", fix=fix)
    statements = [item for item, _ in walk(policy.items) if isinstance(item, n.Statement)]
    if not editions and len(statements) > 1:
        report.warning(
            "PC104",
            Span(policy.items[0].span.start, policy.items[0].span.start),
            "the file does not say which edition of the language it is written in",
            f"write `edition {v.EDITIONS[-1]}` as its first line",
            fix=inserting(0, f"edition {v.EDITIONS[-1]}\n", "safe"),
        )
