"""Imported files: each is read and checked once, without cycles and within limits.

What an import brings are names: the attributes and constants that the file declares, qualified by the alias,
and its domains and tags, which are names in the user's data and stay as they are. Statements, groups, tests
and what the file imports itself are not brought.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from constraintlang import nodes as n
from constraintlang import vocabulary as v
from constraintlang.characters import check_characters
from constraintlang.declarations import Declarations, collect
from constraintlang.diagnostics import Diagnostic
from constraintlang.limits import MAX_BYTES
from constraintlang.memory import Memory
from constraintlang.parser import ParseResult, parse_detailed
from constraintlang.places import Place, Refusal, find_place, key_of
from constraintlang.prelude import load_prelude
from constraintlang.report import Report
from constraintlang.source import SourceFile, Span

MAX_FILES = 100
MAX_DEPTH = 20
MAX_NAMES = 100_000
"""Names that imports bring, each counted as often as it is brought."""


@dataclass
class Library:
    """What one check has read so far."""

    allow_path: bool = False
    declared: dict[str, Declarations | None] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    num_names: int = 0
    findings: list[Diagnostic] = field(default_factory=list)
    """What is wrong in imported files; each finding carries its file."""
    places: dict[str, Span] = field(default_factory=dict)
    """For each file by its name, the import in the file that is checked by which it came."""
    memory: Memory | None = None

    def parsed(self, source: SourceFile) -> ParseResult:
        """The tree of an imported file; of one with the same text as in an earlier check, that of then."""
        if self.memory is None:
            return parse_detailed(source)
        return self.memory.recall("file", source.text, 0, lambda: parse_detailed(source))


@dataclass(frozen=True)
class Importer:
    """Reads the imports of one file; ``chain`` are the (key, name) of the files that are being read.

    ``entry`` is the import in the file that is checked by which this file came; None is that file itself.
    """

    library: Library
    source: SourceFile
    chain: tuple[tuple[str | None, str], ...]
    entry: Span | None = None

    @classmethod
    def of(cls, source: SourceFile, library: Library) -> Importer:
        """The importer of the file that is checked."""
        return cls(library, source, ((key_of(source), source.name),))

    def declarations_of(self, item: n.Import, report: Report) -> Declarations | None:
        """What the file of an import declares; None when it cannot be read, which is reported."""
        place = find_place(item.path, self.source, allow_path=self.library.allow_path)
        if isinstance(place, Refusal):
            report.error(place.code, item.span, place.message, place.help)
            return None
        keys = [key for key, _ in self.chain]
        if place.key in keys:
            names = [name for _, name in self.chain[keys.index(place.key) :]]
            shown = " -> ".join(f"`{name}`" for name in [*names, names[0]])
            message = f"the file imports itself: {shown}"
            report.error("PC103", item.span, message, "move what both need into a file that imports neither")
            return None
        if place.key not in self.library.declared:
            self.library.declared[place.key] = None
            self.library.declared[place.key] = self._read(place, item, report)
        found = self.library.declared[place.key]
        return found if found is None or self._may_bring(found, item, report) else None

    def _may_bring(self, file: Declarations, item: n.Import, report: Report) -> bool:
        before = self.library.num_names
        self.library.num_names += len(file.attributes) + len(file.values.decimals) + len(file.domains)
        self.library.num_names += len(file.quiet) + sum(len(values) for values in file.tag_values.values())
        if self.library.num_names <= MAX_NAMES:
            return True
        if before <= MAX_NAMES:
            message = f"the imports bring more than {MAX_NAMES:,} names"
            report.error("PC010", item.span, message, "import fewer files, and each of them once")
        return False

    def _read(self, place: Place, item: n.Import, report: Report) -> Declarations | None:
        library = self.library
        if len(library.declared) > MAX_FILES or len(self.chain) > MAX_DEPTH:
            too_deep = len(self.chain) > MAX_DEPTH
            what = f"one behind the other {MAX_DEPTH} times" if too_deep else f"from {MAX_FILES} files"
            message = f"names are imported {what}, and that is the most"
            report.error("PC010", item.span, message, "put the declarations into fewer files")
            return None
        try:
            with place.path.open("rb") as file:
                text = file.read(MAX_BYTES + 1).decode("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            why = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error.strerror).lower()
            report.error("PC107", item.span, f"cannot read `{place.name}`: {why}", "correct the file")
            return None
        library.texts[place.key] = text
        entry = self.entry or item.span
        library.places[place.name] = entry
        if sum(map(len, library.texts.values())) > MAX_BYTES:
            message = "the imported files are larger than 4 MiB together"
            report.error("PC010", item.span, message, "import less, or smaller files")
            return None
        source = SourceFile(text, place.name, place.path.parent)
        parsed = library.parsed(source)
        inner = Report(list(parsed.diagnostics), source)
        comments = [c.span for c in parsed.policy.comments if c.text]
        inner.diagnostics.extend(check_characters(source, comments, parsed.diagnostics))
        importer = Importer(library, source, (*self.chain, (place.key, place.name)), entry)
        found = collect(
            parsed.policy,
            inner,
            prelude=load_prelude(v.EDITIONS[-1]),
            lost_names=parsed.lost_names,
            importer=importer,
        )
        found.source = source
        line, _ = self.source.position(item.span.start)
        note = f"imported by `{self.source.name}`, line {line}"
        library.findings += [
            replace(d, source=source, notes=(*d.notes, note))
            for d in inner.diagnostics
            if d.severity != "note"
        ]
        return found
