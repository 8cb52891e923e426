"""``test`` blocks: names, stubs and outcomes are checked, and each expectation finds its statements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from constraintlang import nodes as n
from constraintlang import vocabulary as v
from constraintlang.cases import ON_A_SAMPLE, ON_ONE_RESPONSE, Case, PolicyTest, Stub
from constraintlang.checked import CheckedStatement
from constraintlang.declarations import Declarations
from constraintlang.fixes import removing, replacing
from constraintlang.names import unknown_attribute
from constraintlang.printer import plain_text
from constraintlang.prompts import check_domain, selects
from constraintlang.report import Report
from constraintlang.scores import score_problem
from constraintlang.source import Span
from constraintlang.suggestions import closest
from constraintlang.tested_statements import MAX_JUDGED, TestedStatements
from constraintlang.undeclared import Use


@dataclass(frozen=True)
class Found:
    """A block and the group that it stands in, if any: without ``on`` it is about the group's statements."""

    node: n.Test
    group: Span | None = None


def check_tests(
    blocks: Sequence[Found],
    statements: Sequence[CheckedStatement],
    declarations: Declarations,
    lost_labels: frozenset[str],
    report: Report,
) -> tuple[PolicyTest, ...]:
    """Check every block.

    While the policy has errors a missing statement may be one that was rejected, so PC702 waits until it has
    none.
    """
    complete = not any(d.is_error for d in report.diagnostics)
    tested = TestedStatements(statements)
    return tuple(
        _Block(block, tested, declarations, lost_labels, report, complete).check() for block in blocks
    )


@dataclass
class _Block:
    found: Found
    tested: TestedStatements
    declarations: Declarations
    lost_labels: frozenset[str]
    report: Report
    complete: bool
    stubs: dict[str, Stub] = field(default_factory=dict)
    unread: dict[str, n.Given] = field(default_factory=dict)
    fresh: dict[str, n.Given] = field(default_factory=dict)  # given since the last expectation

    def check(self) -> PolicyTest:
        test, before = self.found.node, len(self.report.diagnostics)
        tags = self.tags(test.clauses)
        cases = []
        if test.partial:  # what outcomes are about may stand in the entries that are missing
            for item in test.items:
                if isinstance(item, n.Given):
                    self.given(item)
                elif self.is_outcome(item) and item.on is not None:
                    self.on(item)
                self.fresh.clear()
            return PolicyTest(test.name, test.span, ())
        for item in test.items:
            if isinstance(item, n.Given):
                self.given(item)
            else:
                cases.append(self.expect(item, tags))
                self.fresh.clear()
        if self.complete and not any(isinstance(item, n.Expect) for item in test.items):
            head = Span(test.span.start, test.span.start + len("test"))
            self.report.warning(
                "PC702", head, "this test expects nothing", "write an outcome, for example `pass on cap`"
            )
        elif self.complete and len(self.report.diagnostics) == before:
            for item in self.unread.values():
                message = f"no expectation below reads `{item.name}`"
                fix = removing(self.report.source.whole_line(item.span))
                self.report.warning("PC702", item.span, message, "remove it, or name the statement", fix=fix)
        return PolicyTest(test.name, test.span, tuple(case for case in cases if case is not None))

    # ------------------------------------------------------------ clauses
    def tags(self, clauses: Sequence[n.Clause]) -> dict[str, str]:
        """The tags of the prompt that the test speaks of."""
        tags: dict[str, str] = {}
        for clause in clauses:
            if not isinstance(clause, n.ForClause):
                word = type(clause).__name__.removesuffix("Clause").lower()
                message = f"`{word}` has no meaning for a test"
                self.report.error("PC224", clause.span, message, "remove it; a test takes `for` only")
                continue
            check_domain(clause.predicate, self.declarations, self.report)
            parts = (
                clause.predicate.operands if isinstance(clause.predicate, n.DomainAnd) else [clause.predicate]
            )
            for part in parts:
                if isinstance(part, n.DomainEquals):
                    tags[part.key] = plain_text(part.value)
                else:
                    message = "a test speaks of one prompt, and this is a choice"
                    help = "give each tag one value, for example `for domain=chat and lang=en`"
                    self.report.error("PC705", part.span, message, help)
        return tags

    # ------------------------------------------------------------ stubs
    def given(self, item: n.Given) -> None:
        start = item.span.start + len("given ")
        place = item.name_span or Span(start, start + len(item.name))
        info = self.declarations.attributes.get(item.name)
        if info is None:
            parts = tuple(item.name.split("."))
            if not {parts[0], item.name} & self.declarations.quiet:
                name = n.Name(parts=parts, span=place)
                unknown_attribute(name, self.declarations, self.report, Use())
            return
        if item.model not in (None, "base"):
            help = f"write `{item.name}@base`"
            self.report.error("PC115", place, f"no model is called `{item.model}`", help)
            return
        for value in item.value if isinstance(item.value, tuple) else (item.value,):
            problem = score_problem(info, value)
            if problem is not None:
                self.report.error(
                    "PC704", item.span, f"`{item.name}` {problem}, so no response can have this score",
                    "give a score that the attribute can have, or correct its declaration",
                )  # fmt: skip
                break
        key = item.name if item.model is None else f"{item.name}@{item.model}"
        if key in self.fresh:
            self.report.error("PC114", item.span, f"`{key}` is given twice", "keep one of the two")
        self.stubs[key] = item.value
        self.unread[key] = self.fresh[key] = item

    # ------------------------------------------------------------ expectations
    def expect(self, item: n.Expect, tags: dict[str, str]) -> Case | None:
        if not self.is_outcome(item):
            return None
        indexes = self.on(item) if item.on is not None else self.about(item, tags)
        if indexes is None:
            return None
        if not self.may_judge(item, sum(self.tested.counted[i] for i in indexes)):
            return None
        judged = [i for i in indexes if self.in_domain(i, tags) and self.fits(item, i)]
        if len(judged) < len(indexes) and item.on is not None and self.fits(item, indexes[0], quiet=True):
            self.warn(item, f"`{item.on}` does not speak of the prompts of this test")
        names = {key for i in judged for key in self.tested.keys[i]}
        read = {key: stub for key, stub in self.stubs.items() if key in names}
        for key in read:
            self.unread.pop(key, None)
        if not indexes:
            self.warn(item, "this touches no statement")
        elif judged and not self.can_be_judged(item, read):
            return None
        if not judged:
            return None
        return Case(item.outcome, item.span, tuple(judged), read, item.text, item.on, tags)

    def is_outcome(self, item: n.Expect) -> bool:
        """Whether the language knows the outcome; else PC703."""
        if item.outcome not in v.OUTCOMES:
            self.report.unknown_word(_head(item), "outcome of a test", item.outcome, v.OUTCOMES, "PC703")
        return item.outcome in v.OUTCOMES

    def warn(self, item: n.Expect, message: str) -> None:
        if self.complete:
            help = "name a statement with `on`, or give a score that one of them reads"
            self.report.warning("PC702", item.span, message, help)

    def on(self, item: n.Expect) -> list[int] | None:
        """The statement that is named; None when it does not exist or has errors of its own."""
        assert item.on is not None
        if item.on in self.declarations.labels:
            return self.tested.labelled.get(item.on)
        if item.on not in self.lost_labels:
            near = closest(item.on, self.declarations.labels)
            help = f"write `{near}`" if near else "label the statement that the test is about"
            place = Span(item.span.end - len(item.on), item.span.end)
            fix = replacing(place, near) if near else None
            self.report.error("PC703", place, f"no statement is labelled `{item.on}`", help, fix=fix)
        return None

    def about(self, item: n.Expect, tags: dict[str, str]) -> list[int]:
        """The statements that an expectation without ``on`` is about.

        Those in the group of the test that the outcome can judge, speak of the prompt, and read a score that
        is given; or, where none is given, any score at all.
        """
        wanted = ("pointwise",) if item.outcome in ON_ONE_RESPONSE else ("pointwise", "distribution")
        found = []
        for index in self.tested.inside(self.found.group):
            touched = not self.stubs or not self.stubs.keys().isdisjoint(self.tested.keys[index])
            judged = self.tested.statements[index].reading in wanted and not self.unordered(item, index)
            judged = judged and "tokens" not in self.tested.levels[index]  # which a text does not have
            if touched and judged and self.in_domain(index, tags):
                found.append(index)
        return found

    def unordered(self, item: n.Expect, index: int) -> str | None:
        """Why an expectation cannot judge a statement about order; None when it can."""
        if item.text is None and self.tested.in_order[index]:
            return "this statement speaks of the order within a response, which no score stands for"
        if self.tested.levels[index] and item.outcome in ON_A_SAMPLE:
            return (
                "this statement speaks of the order within a response, which no stub of a sample stands for"
            )
        return None

    def may_judge(self, item: n.Expect, number: int) -> bool:
        """Whether the tests may judge so many statements more; else PC010, once."""
        before, self.tested.num_judged = self.tested.num_judged, self.tested.num_judged + number
        if self.tested.num_judged <= MAX_JUDGED:
            return True
        if before <= MAX_JUDGED:
            message = (
                f"the tests judge more than {MAX_JUDGED:,} statements, counting each as often as it is judged, "
                "and a long one as several"
            )
            self.report.error("PC010", item.span, message, "name the statements with `on`, or use groups")
        self.unread.clear()
        return False

    def in_domain(self, index: int, tags: dict[str, str]) -> bool:
        domain = self.tested.statements[index].domain
        return domain is None or selects(domain, tags) is not False

    def fits(self, item: n.Expect, index: int, *, quiet: bool = False) -> bool:
        """Whether the outcome can judge the statement; else PC705."""
        statement = self.tested.statements[index]
        message = self.unordered(item, index)
        if message is None and statement.reading == "rows":
            message = "this statement speaks of the model on your rows, which no stub stands for"
        elif message is None and statement.reading == "distribution" and item.outcome in ON_ONE_RESPONSE:
            message = f"`{item.outcome}` judges one response, and this statement speaks of all of them"
        if message and not quiet:
            help = (
                "expect `holds`, `violated` or `inconclusive` of a sample"
                if "one" in message
                else "remove it"
            )
            self.report.error("PC705", item.span, message, help)
        return message is None

    def can_be_judged(self, item: n.Expect, read: dict[str, Stub]) -> bool:
        """Whether the stubs fit together and with the outcome; else PC705."""
        lists = {key: len(stub) for key, stub in read.items() if isinstance(stub, tuple)}
        if item.outcome in ON_ONE_RESPONSE and lists:
            name, size = next(iter(lists.items()))
            message = f"`{item.outcome}` judges one response, and `{name}` is given for {size}"
            help = "give one number, or expect `holds`, `violated` or `inconclusive`"
        elif len(set(lists.values())) > 1:
            sizes = " and ".join(f"`{name}` for {size}" for name, size in lists.items())
            message, help = f"a sample has one size, and {sizes} are given", "give lists of the same length"
        elif not read and (item.text is None or item.outcome in ON_A_SAMPLE):
            message = "nothing is given that could be judged"
            example = "[0.1, 0.9]" if item.outcome in ON_A_SAMPLE else "0.1"
            help = f"give a score before it, for example `given toxicity = {example}`"
        else:
            return True
        self.report.error("PC705", _head(item), message, help)
        return False


def _head(item: n.Expect) -> Span:
    return Span(item.span.start, item.span.start + len(item.outcome))
