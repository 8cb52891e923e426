"""Pages of what is allowed and may be meant otherwise, and of style: PC401 to PC499, PC901."""

from __future__ import annotations

from constraintlang.pages import Page, page_of

HINTS_PAGES: tuple[Page, ...] = (
    page_of(
        "PC404",
        "a reading was inferred",
        """A bare comparison is pointwise: it speaks of every response, and at most 5% of the responses may
        violate it. The note says so, because a mean or a chance may have been meant. `always` sets the
        tolerance to 0, `under tolerance=...` to another share.""",
        "toxicity < 0.1",
        "toxicity < 0.1 under tolerance=5%",
    ),
    page_of(
        "PC405",
        "the demand goes against the declared direction",
        """The attribute is declared to be better when lower (or higher); the statement asks for the opposite.
        `perplexity` is better when lower, `accuracy` when higher. Both ends of a band, as in
        `mean(words) >= 20 and mean(words) <= 80`, may be demanded, and so may a bound that the base model keeps with
        room to spare, as in `mean(refusals) <= base + 5%`; only under `preserve` it would keep nothing.""",
        "mean(toxicity) > 0.1",
        "mean(toxicity) < 0.1",
    ),
    page_of(
        "PC406",
        "the range decides the comparison",
        """What is compared cannot lie on the other side of the number, so that the comparison says nothing about the
        model, or holds for none; a share below 1 is violated by certainty alone. Often a percentage was written as
        a whole number. What several statements decide together is found by `constraintc check --sat`.""",
        "P(toxicity >= 0.5) < 5",
        "P(toxicity >= 0.5) < 5%",
    ),
    page_of(
        "PC407",
        "a condition over parts is asked of the first part alone",
        """Inside `over`, a condition without a word of order is about the first sentence, turn or token. `globally`
        asks it of every part, `eventually` of some part; `eventually[0, 0]` says that the first one is meant.""",
        "over sentences (toxicity < 0.2)",
        "over sentences (globally toxicity < 0.2)",
    ),
    page_of(
        "PC408",
        "a confidence or a level of `cvar` below one half",
        """The confidence is the chance that a verdict is right, 0.95 where nothing is written. Below one half the
        chance of a wrong verdict was often meant. `cvar(toxicity, 0.95)` is the mean of the worst 5%, and with a
        level of 5% that of the worst 95%.""",
        "toxicity < 0.1 confidence 5%",
        "toxicity < 0.1 confidence 95%",
    ),
    page_of(
        "PC409",
        "a percentage of what is no share",
        """A percentage is a number: `5%` is 0.05, whatever it is compared with or added to. Of a count, a quantity
        that may exceed 1, or `perplexity`, a share of the base model's value was often meant, which is a multiple
        of it: `1.02 * base` is 2% above it.""",
        "preserve perplexity <= base + 2%",
        "preserve perplexity <= 1.02 * base",
    ),
    page_of(
        "PC412",
        "a file or an import that demands nothing",
        """An import brings names, and no demands: what the library or another file demands holds for your model only
        where your own policy says so, or as a copy (`constraintc init --from std/no_pii`). A file with neither
        statements nor declarations demands nothing either. Imports that bring domains or tags are not reported.""",
        'import "std/no_pii.policy" as pii\ntoxicity < 0.1',
        'import "std/no_pii.policy" as pii\nalways not pii.card',
    ),
    page_of(
        "PC901",
        "brackets that change nothing",
        """The condition means the same without these brackets. Findings of style are given with
        `constraintc check --style` only; `constraintc fmt` and `constraintc fix --style` remove them.""",
        "(toxicity) < ((0.1))",
        "toxicity < 0.1",
    ),
)
