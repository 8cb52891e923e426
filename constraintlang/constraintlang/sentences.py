"""What belongs at each place of the grammar: one curated sentence, shown as the help of a syntax error.

A place is named like ``confidence: CONFIDENCE``: the rule that has been begun, then the last two symbols read.
The table is searched for the place, then for the rule with the last symbol only, then for the rule alone.
A test walks all states of the parser and fails when one finds no sentence.
"""

from __future__ import annotations

_ITEM = "write a statement such as `toxicity < 0.1`, or a declaration such as `let cap = 0.1`"
_COMPLETE = "the item is complete here: what follows belongs on a line of its own"
_CONDITION = "write a condition, for example `toxicity < 0.1` or `not slur`"
_AFTER_CONDITION = (
    "after a condition: `and`, `or`, `implies`, a clause such as `for domain=chat` or the end of the line"
)
_AFTER_CLAUSE = "after a clause comes another one, such as `confidence 0.95`, or the end of the line"
_OPERAND = "write a number, the name of an attribute or constant, or a calculation in brackets"
_AFTER_OPERAND = "compare it, for example `toxicity < 0.1`; calculate with `+`, `-`, `*`, `/`"
_CLOSE = "close the bracket with `)`"
_STATISTIC = "write it like `mean(toxicity)`, `P(toxicity > 0.5)` or `quantile(toxicity, 0.95)`"
_INTERVAL = "write the range like `[0, 1]`; both ends belong to it"
_PROMPTS = "say which prompts, for example `domain=chat` or `lang in {en, de}`"
_AFTER_PROMPTS = "join conditions on prompts with `and` and `or`, for example `for domain=chat and lang=en`"
_KEY = "match a tag with a value, for example `domain=chat` or `lang in {en, de}`"
_SET = "write the values in braces, separated by commas, for example `{en, de}`"
_VALUE = "write one name, one number or one text in quotes"
_SETTING = "write it like `under temperature=0.7, samples=25`"
_ATTRIBUTE = "write it like `attribute toxicity: score in [0, 1] lower_is_better`"
_FIELDS = 'write settings like `{ backend = lexicon("slurs.txt") }`, separated by commas or new lines'
_CALL = 'write it like `classifier("unitary/toxic-bert", label="toxicity")`'
_DOMAIN = 'write it like `domain chat { source = jsonl("data/chat.jsonl") }`'
_GROUP = "write it like `group core for lang=en { ... }`, with the statements between the braces"
_TEST = 'write it like `test "borderline" { given toxicity = 0.1 }`, one line for each demand'
_IMPORT = 'write it like `import "std/safety.policy" as safety`'
_TIME = "write it like `eventually[0, 2] refusal`; the bounds can be left out"
_OVER = "write it like `over sentences (globally not slur)`"

SENTENCES: dict[str, str] = {
    # ---------------------------------------------------------------- files and declarations
    "$root_start:": _ITEM,
    "start:": _ITEM,
    "__start_plus:": _ITEM,
    "__start_star:": _ITEM,
    "_item:": _COMPLETE,
    "decl:": _COMPLETE,
    "edition: EDITION": "give the number of the edition: `edition 1`",
    "edition: INT": _COMPLETE,
    "import_:": _IMPORT,
    "import_: AS NAME": _COMPLETE,
    "let:": "write it like `let cap = 0.1`",
    "let: expr": "a constant is calculated from numbers and other constants, for example `let cap = 2 * low`",
    "attribute:": _ATTRIBUTE,
    "attribute: dotted COLON": "name the type: `score`, `real`, `int`, `count` or `flag`",
    "attribute: fields": _COMPLETE,
    "dotted:": _ATTRIBUTE,
    "__attribute_star:": _ATTRIBUTE,
    "fields:": _FIELDS,
    "fields: RBRACE": _COMPLETE,
    "__fields_star:": _FIELDS,
    "_sep:": _FIELDS,
    "_sep: __start_plus|fields: __fields_star __start_plus": _FIELDS,
    "_sep: __start_plus|fields: field __start_plus": _FIELDS,
    "field:": _FIELDS,
    "field: NAME": 'give the setting a value with `=`, for example `backend = lexicon("slurs.txt")`',
    "field: EQUAL": "write a name, a number, a text in quotes, a set such as `{en, de}`, or a call such as "
    "`length(words)`",
    "_fvalue:": _FIELDS,
    "call:": _CALL,
    "call: RPAR": _FIELDS,
    "call: NAME|scalar: NAME": _FIELDS,
    "__call_star:": _CALL,
    "arg:": _CALL,
    "arg: NAME EQUAL": _VALUE,
    "arg: NAME|scalar: NAME": _CALL,
    "domain:": _DOMAIN,
    "domain: fields": _COMPLETE,
    "tag:": "write it like `tag lang in {en, de}`",
    "tag: set": _COMPLETE,
    "group:": _GROUP,
    "group: block": _COMPLETE,
    "block:": _ITEM,
    "block: RBRACE": _COMPLETE,
    # ---------------------------------------------------------------- statements
    "stmt:": _CONDITION,
    "stmt: formula": _AFTER_CONDITION,
    "stmt: __group_star": _AFTER_CLAUSE,
    "label: NAME|primary: NAME|ref: NAME": _AFTER_OPERAND,
    "label: COLON": _CONDITION,
    "strength:": _CONDITION,
    "always:": _CONDITION,
    "formula:": _AFTER_CONDITION,
    "formula: IMPLIES": "write what must follow, for example `medical_advice implies disclaimer`",
    "disj:": _AFTER_CONDITION,
    "__disj_plus:": _AFTER_CONDITION,
    "__disj_plus: OR": "write the other condition, or remove the word",
    "conj:": _AFTER_CONDITION,
    "__conj_plus:": _AFTER_CONDITION,
    "__conj_plus: AND": "write the other condition, or remove the word",
    "until:": _AFTER_CONDITION,
    "until: untilop": "write the condition on the later positions, for example `disclaimer before advice`",
    "untilop:": "write the condition on the later positions, for example `disclaimer before advice`",
    "prefix:": _AFTER_CONDITION,
    "prefix: NOT": "write the condition that must not hold, for example `not slur`",
    "prefix: tunop": _TIME,
    "prefix: bound": _TIME,
    "tunop:": _TIME,
    "bound:": _TIME,
    "atom:": _AFTER_CONDITION,
    "atom: expr": _AFTER_OPERAND,
    "atom: IN": _INTERVAL,
    "atom: OVER": _OVER,
    "atom: OVER NAME": _OVER,
    "atom: NAME LPAR": _CONDITION,
    "atom: LPAR formula": _CLOSE,
    "__atom_plus: CMP": "write the value to compare with, for example `toxicity < 0.1`",
    "__atom_plus: expr": _AFTER_CONDITION,
    "truth:": _AFTER_CONDITION,
    "interval:": _INTERVAL,
    "interval: RSQB": _AFTER_CLAUSE,
    # ---------------------------------------------------------------- arithmetic
    "expr:": _AFTER_OPERAND,
    "__expr_plus:": _AFTER_OPERAND,
    "__expr_plus: ADD": _OPERAND,
    "product:": _AFTER_OPERAND,
    "__product_plus:": _AFTER_OPERAND,
    "__product_plus: MUL": _OPERAND,
    "unary:": _AFTER_OPERAND,
    "unary: ADD": _OPERAND,
    "primary:": _AFTER_OPERAND,
    "primary: LPAR": _CONDITION,
    "primary: NAME LPAR": _STATISTIC,
    "primary: VBAR": "say which prompts are meant, for example `P(toxicity > 0.5 | lang=fr)`",
    "primary: _dpred": _CLOSE,
    "primary: _carg": _STATISTIC,
    "primary: __primary_star": _STATISTIC,
    "primary: formula": _CLOSE,
    "primary: NAME|ref: NAME": _AFTER_OPERAND,
    "_carg:": _STATISTIC,
    "__primary_star:": _STATISTIC,
    "kwarg:": _STATISTIC,
    "kwarg: NAME EQUAL": _VALUE,
    "kwarg: NAME|primary: NAME|ref: NAME": _STATISTIC,
    "number:": _AFTER_OPERAND,
    "ref:": _AFTER_OPERAND,
    "ref: AT": "name the model, for example `reference_perplexity@base`",
    "__dotted_star:": "a name with points stands where a plain one does, for example `safety.self_harm < 0.1`",
    "__dotted_star: DOT": "write the name that the import brings in, for example `safety.self_harm`",
    # ---------------------------------------------------------------- clauses and prompts
    "_clause:": _AFTER_CLAUSE,
    "__group_star:": _AFTER_CLAUSE,
    "for_:": _AFTER_PROMPTS,
    "for_: FOR": "say which prompts, for example `for domain=toxigen`",
    "per:": "name one or more tags, for example `per target_group`",
    "__per_star:": "name one or more tags, for example `per target_group`",
    "under:": _SETTING,
    "__under_star:": _SETTING,
    "setting:": _SETTING,
    "weight:": "give a number above 0, for example `weight 0.5`",
    "weight: expr": _AFTER_CLAUSE,
    "priority:": "give a whole number, for example `priority 1`",
    "priority: INT": _AFTER_CLAUSE,
    "confidence:": "give a number below 1, for example `confidence 0.95`",
    "confidence: number": _AFTER_CLAUSE,
    "because:": 'give the reason in quotes, for example `because "counsel 2025-03"`',
    "because: STRING": _AFTER_CLAUSE,
    "_dpred:": _AFTER_PROMPTS,
    "dor:": _AFTER_PROMPTS,
    "__dor_plus:": _AFTER_PROMPTS,
    "__dor_plus: OR": _PROMPTS,
    "dand:": _AFTER_PROMPTS,
    "__dand_plus:": _AFTER_PROMPTS,
    "__dand_plus: AND": _PROMPTS,
    "datom:": _AFTER_PROMPTS,
    "datom: NOT": _PROMPTS,
    "datom: LPAR": _PROMPTS,
    "datom: _dpred": _CLOSE,
    "datom: dkey": _KEY,
    "datom: EQUAL": "write the value of the tag, for example `domain=chat`",
    "datom: IN": _SET,
    "dkey:": _KEY,
    "set:": _SET,
    "__set_star:": _SET,
    "__set_star: COMMA __start_plus|__start_plus: __start_plus": _SET,
    "set: RBRACE": _AFTER_CLAUSE,
    "scalar:": _VALUE,
    "scalar: ADD": "a number follows the sign, for example `-0.5`",
    # ---------------------------------------------------------------- tests
    "test:": _TEST,
    "test: RBRACE": _COMPLETE,
    "__test_star:": _TEST,
    "_titem:": _TEST,
    "given:": "write it like `given toxicity = 0.1`, or `given toxicity = [0.1, 0.9]` for a sample",
    "measured:": "write it like `given toxicity = 0.1`, or `given toxicity = [0.1, 0.9]` for a sample",
    "series:": "write the scores of a sample like `[0.1, 0.9]`",
    "__series_star:": "write the scores of a sample like `[0.1, 0.9]`",
    "signed_number:": "write the scores of a sample like `[0.1, 0.9]`",
    "signed_number: ADD": "a number follows the sign, for example `-0.5`",
    "expect:": 'write it like `fail "text" on cap` or `holds on cap`',
}
"""The sentences by place."""


def key_of(place: str) -> str | None:
    """The entry of the table that speaks of a place; None when there is none."""
    rule, _, symbols = place.partition(" ")
    last = symbols.rpartition(" ")[2]
    for key in (place, f"{rule} {last}", rule):
        if key in SENTENCES:
            return key
    return None


def sentence(place: str) -> str:
    """What belongs at a place."""
    key = key_of(place)
    return SENTENCES[key] if key is not None else _ITEM
