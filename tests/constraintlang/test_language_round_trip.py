"""Text and tree are two forms of one thing."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_strategies import policies, statements

from constraintlang import format_policy, parse
from constraintlang import nodes as n
from constraintlang.printer import format_statement


@settings(max_examples=120, deadline=None)
@given(policies)
def test_parse_of_print_is_the_tree(policy):
    text = format_policy(policy)
    back, diagnostics = parse(text)
    assert [d for d in diagnostics if d.is_error] == [], text
    assert back == policy, text


@settings(max_examples=120, deadline=None)
@given(statements)
def test_parse_of_print_is_the_statement(statement):
    text = format_statement(statement)
    back, diagnostics = parse(text)
    assert [d for d in diagnostics if d.is_error] == [], text
    assert back.items == (statement,), text


@settings(max_examples=60, deadline=None)
@given(policies)
def test_print_is_idempotent(policy):
    text = format_policy(policy)
    assert format_policy(parse(text)[0]) == text


@settings(max_examples=60, deadline=None)
@given(statements)
def test_no_bracket_can_be_spared(statement):
    text = format_statement(statement)
    for index, char in enumerate(text):
        if char != "(" or '"' in text:
            continue
        depth, close = 0, index
        for close in range(index, len(text)):
            depth += {"(": 1, ")": -1}.get(text[close], 0)
            if depth == 0:
                break
        spared = text[:index] + text[index + 1 : close] + text[close + 1 :]
        back, diagnostics = parse(spared)
        assert diagnostics or back.items != (statement,), (text, spared)


@settings(max_examples=50, deadline=None)
@given(policies, st.data())
def test_comments_survive_in_order(policy, data):
    lines = format_policy(policy).split("\n")
    marks = []
    for index in range(len(lines)):
        if data.draw(st.booleans()):
            marks.append(f"# mark {index}")
            lines[index] += "  " + marks[-1]
    text = "\n".join(lines)
    tree, diagnostics = parse(text)
    assert not [d for d in diagnostics if d.is_error]
    assert tree == policy
    formatted = format_policy(tree)
    again, _ = parse(formatted)
    assert [c.text for c in again.comments if c.text] == marks
    assert again == policy
    assert format_policy(again) == formatted


def test_layout_is_kept():
    text = (
        "# top\n\n\nlet x = 1 # one\n\n group g for a=b { # head\n\n a < 1 and # mid\n b < 2 # t\n # last\n\n"
        "} # end\n# fin"
    )
    assert format_policy(parse(text)[0]) == (
        "# top\n\nlet x = 1  # one\n\ngroup g for a=b {  # head\n  # mid\n"
        "  a < 1 and b < 2  # t\n  # last\n"
        "}  # end\n# fin\n"
    )


def test_canonical_spelling():
    text = "cap:require((toxicity<(0.10)))for(domain=toxigen)under tolerance=2.0%"
    assert format_policy(parse(text)[0]) == "cap: toxicity < 0.1 for domain=toxigen under tolerance=2%\n"


def test_precedence():
    def tree(text):
        return parse(text)[0].items[0].formula

    assert tree("not a and b or c implies d") == tree("(((not a) and b) or c) implies d")
    assert tree("a implies b implies c") == tree("a implies (b implies c)")
    assert tree("a or b and c") == tree("a or (b and c)")
    assert tree("a - b - c < 1") == tree("(a - b) - c < 1")
    assert tree("a - b * c < 1") == tree("a - (b * c) < 1")
    assert tree("-a * b < 1") == tree("(-a) * b < 1")
    assert tree("not a < 1") == n.Not(operand=tree("a < 1"))
    assert tree("a until b until c") == tree("a until (b until c)")
    assert tree("(a and b) and c") != tree("a and b and c")
    assert format_policy(parse("a - (b - c) < 1 and (d or e)")[0]) == "a - (b - c) < 1 and (d or e)\n"


def test_numbers_are_exact():
    (statement,) = parse("a < 0.1000000000000000000000000000000000000000001%")[0].items
    assert format_statement(statement) == "a < 0.1000000000000000000000000000000000000000001%"
    assert str(statement.formula.operands[1].value) == "0.001000000000000000000000000000000000000000001"


CONNECTIVES = {
    "not": lambda a, b: n.Not(operand=a),
    "next": lambda a, b: n.Temporal(op="next", operand=a),
    "and": lambda a, b: n.And(operands=(a, b)),
    "or": lambda a, b: n.Or(operands=(a, b)),
    "implies": lambda a, b: n.Implies(left=a, right=b),
    "until": lambda a, b: n.TemporalBinary(op="until", left=a, right=b),
}
OPERATORS = {op: lambda a, b, op=op: n.Arithmetic(op=op, left=a, right=b) for op in "+-*/"}
OPERATORS["neg"] = lambda a, b: n.Negate(operand=a)


@pytest.mark.parametrize(("table", "atom"), [(CONNECTIVES, n.Flag), (OPERATORS, lambda name: name)])
def test_every_pair_of_operators_in_every_position(table, atom):
    x, y, z = (atom(name=n.Name(parts=(c,))) if atom is n.Flag else n.Name(parts=(c,)) for c in "xyz")
    for outer in table.values():
        for inner in table.values():
            for tree in (outer(inner(x, y), z), outer(x, inner(y, z))):
                whole = tree if atom is n.Flag else n.Compare(operands=(tree, x), operators=("<",))
                text = format_policy(n.Policy(items=(n.Statement(formula=whole),)))
                back, diagnostics = parse(text)
                assert not diagnostics
                assert back.items[0].formula == whole, text
