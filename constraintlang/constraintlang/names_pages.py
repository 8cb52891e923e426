"""Pages of what is wrong with names and declarations: PC101 to PC199."""

from __future__ import annotations

from constraintlang.pages import Page, page_of

NAMES_PAGES: tuple[Page, ...] = (
    page_of(
        "PC101",
        "no attribute has this name",
        """A name in a condition must be an attribute of the file, an attribute that every policy knows, or a
        constant declared with `let`.""",
        "toxcity < 0.1",
        "toxicity < 0.1",
    ),
    page_of(
        "PC102",
        "no domain, tag or value has this name",
        """Where a file declares domains, or the values of a tag, a name that is not among them selects no
        prompt. Without such declarations every name is accepted.""",
        "tag lang in {en, de}\ntoxicity < 0.1 for lang=ed",
        "tag lang in {en, de}\ntoxicity < 0.1 for lang=de",
    ),
    page_of(
        "PC103",
        "a file imports itself",
        """Imports may share files, but not go in a circle, directly or through other files: what both sides
        need belongs into a file that imports neither. In the example the policy stands in `my.policy`.""",
        'import "my.policy" as my\ntoxicity < my.cap',
        "let cap = 0.1\ntoxicity < cap",
    ),
    page_of(
        "PC104",
        "the file does not name its edition",
        "A file of several statements should say which edition of the language it is written in.",
        "toxicity < 0.1\nwords < 100",
        "edition 1\ntoxicity < 0.1\nwords < 100",
    ),
    page_of(
        "PC105",
        "a constant is defined by itself",
        "Constants may use each other in any order, but not in a circle.",
        "let a = b\nlet b = 2 * a\ntoxicity < a",
        "let a = b\nlet b = 0.1\ntoxicity < a",
    ),
    page_of(
        "PC106",
        "a character that deceives the eye",
        """Invisible characters, characters that turn the direction of writing, and words that mix Latin
        letters with their look-alikes can make two different policies look the same. Comments are not
        searched.""",
        'toxicity < 0.1 because "approved\u202e"',
        'toxicity < 0.1 because "approved"',
    ),
    page_of(
        "PC107",
        "an imported file cannot be read",
        """A path that begins with `std/` names a policy of the standard library (`constraintc init --list`).
        Any other path begins at the folder of the file that imports, is written with `/` and ends in
        `.policy`.""",
        'import "std/safty.policy" as safety\nP(safety.self_harm > 0.5) < 0.1%',
        'import "std/safety.policy" as safety\nP(safety.self_harm > 0.5) < 0.1%',
    ),
    page_of(
        "PC108",
        "a name of the prelude is declared again",
        """Every policy knows some attributes without declaring them. A declaration in the file takes their
        place; the note is there so that this never happens by accident.""",
        "attribute words: count { backend = length(words) }\nwords < 100",
        "words < 100",
    ),
    page_of(
        "PC109",
        "a label is used twice",
        "A label names one statement: reports and tests refer to it.",
        "edition 1\ncap: toxicity < 0.1\ncap: words < 100",
        "edition 1\ncap: toxicity < 0.1\nlength: words < 100",
    ),
    page_of(
        "PC110",
        "a declaration in the wrong place",
        "`edition` is the first item of a file; declarations stand outside groups.",
        "group core {\n  let cap = 0.1\n  toxicity < cap\n}",
        "let cap = 0.1\ngroup core {\n  toxicity < cap\n}",
    ),
    page_of(
        "PC111",
        "something is declared twice",
        "Two declarations of one name cannot both hold.",
        "let cap = 0.1\nlet cap = 0.2\ntoxicity < cap",
        "let cap = 0.1\ntoxicity < cap",
    ),
    page_of(
        "PC112",
        "a name of the language is declared",
        "Statistics, `base`, `inf`, `perplexity` and `accuracy` have a meaning of their own.",
        "let mean = 0.1\ntoxicity < mean",
        "let cap = 0.1\ntoxicity < cap",
    ),
    page_of(
        "PC113",
        "there is no such edition",
        "This release reads edition 1.",
        "edition 7\ntoxicity < 0.1",
        "edition 1\ntoxicity < 0.1",
    ),
    page_of(
        "PC114",
        "a clause or setting is given twice",
        "Each clause stands once in a statement; conditions on prompts are joined with `and`.",
        "toxicity < 0.1 for lang=en for domain=chat",
        "toxicity < 0.1 for lang=en and domain=chat",
    ),
    page_of(
        "PC115",
        "a word that is not in the list",
        """Types, properties, fields, backends, levels and settings come from closed lists. The languages and kinds
        of personal data grow with the libraries that know them, so that an unknown one is a warning.""",
        "mean(toxicity) < 0.1 under temprature=1",
        "mean(toxicity) < 0.1 under temperature=1",
    ),
    page_of(
        "PC116",
        "no statistic has this name",
        "The statistics are `mean`, `P`, `median`, `min`, `max`, `quantile` and `cvar`.",
        "average(toxicity) < 0.1",
        "mean(toxicity) < 0.1",
    ),
    page_of(
        "PC117",
        "a backend or field is written wrongly",
        "Every backend has its own arguments and the types that it can measure.",
        'attribute ssn: flag { backend = regex("[0-9]{9}") }\nnot ssn',
        'attribute ssn: flag { backend = regex(re"[0-9]{9}") }\nnot ssn',
    ),
    page_of(
        "PC118",
        "the range of an attribute is wrong",
        "A range is `[low, high]` with constants, the smaller first; `inf` leaves an end of a `real` open.",
        'attribute grade: real in [20, 0] { backend = python("acme:grade") }\ngrade < 9',
        'attribute grade: real in [0, 20] { backend = python("acme:grade") }\ngrade < 9',
    ),
    page_of(
        "PC119",
        "a policy reaches outside its folder",
        """A policy may come from somebody else. It reads files of its own folder and below, links followed,
        unless `--allow-path` is given; every imported file is held to its own folder in the same way.""",
        'import "../team.policy" as team\ntoxicity < team.cap',
        "let cap = 0.1\ntoxicity < cap",
    ),
    page_of(
        "PC120",
        "this parses, but this release does not compile it",
        """The whole language can be written and formatted. What this release cannot train and verify is
        refused, never skipped; the help says what to write in the meantime.""",
        "max(toxicity) <= 0.3",
        "always toxicity <= 0.3",
    ),
)
