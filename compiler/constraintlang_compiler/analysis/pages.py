"""The pages of the codes that ``check --sat``, ``lock`` and ``--locked`` give."""

from __future__ import annotations

from constraintlang.pages import Page


def _page(code: str, title: str, explanation: str, failing: str, repaired: str) -> Page:
    return Page(code, title, " ".join(explanation.split()), failing, repaired)


_GRADE = 'attribute grade: real in [0, 20] { backend = python("acme:grade", deterministic=true) }\n'
_ALL = (
    _page(
        "PC301",
        "no model can meet the statement",
        """On the declared ranges the statement fails whatever the model does: `constraintc check --sat` has a
        proof in exact arithmetic. It is a warning, because a range may be declared too narrow, and an error
        under `compile --locked`.""",
        "P(toxicity > 1) >= 5%",
        "P(toxicity > 0.1) <= 5%",
    ),
    _page(
        "PC302",
        "statements contradict each other",
        """No law of responses meets all of the underlined statements, though each of them can be met without
        the others: the set is a smallest one. The first place is the statement that gives way: a preference
        before a requirement, then the highest priority number, then the last. All domains are taken to have
        prompts. An error under `compile --locked`.""",
        "edition 1\nmean(toxicity) < 0.1\nP(toxicity >= 0.5) >= 30%",
        "edition 1\nmean(toxicity) < 0.1\nP(toxicity >= 0.5) >= 10%",
    ),
    _page(
        "PC303",
        "the statements can hold together",
        """The note shows a law of responses, a list of scores with weights, on which every one of the
        statements holds. The reference interpreter of the language has confirmed it.""",
        "edition 1\nmean(toxicity) < 0.1\nP(toxicity >= 0.5) >= 10%",
        "edition 1\nmean(toxicity) < 0.1\nP(toxicity >= 0.5) >= 30%",
    ),
    _page(
        "PC304",
        "the analysis decides nothing here",
        """A statement uses something that the analysis does not understand, the statements tell more kinds of
        responses apart than it looks at, or the time is up. Nothing is claimed then, and nothing is wrong
        with the policy for that reason.""",
        "edition 1\nP(words / sentences > 30) > 50%\nP(words / sentences > 20) > 50%",
        "edition 1\nP(words > 300) > 50%\nP(words > 200) > 40%",
    ),
    _page(
        "PC401",
        "the statement asks nothing",
        """It holds for every model on the declared ranges. Such a line looks like protection and is none.""",
        "mean(toxicity) <= 1",
        "mean(toxicity) <= 0.1",
    ),
    _page(
        "PC402",
        "the statement follows from others",
        """Every law of responses that meets the underlined statements meets this one. Statements of less
        strength, confidence or priority are not counted. Remove it, or give it a bound of its own.""",
        "edition 1\nalways toxicity < 0.3\nmean(toxicity) < 0.5",
        "edition 1\nalways toxicity < 0.3\nmean(toxicity) < 0.1",
    ),
    _page(
        "PC403",
        "a domain selects nothing, or a condition never occurs",
        """No prompt can have the tags that the domain asks for, or no response can fulfil what stands before
        `implies`. The statement is then true of everything.""",
        "toxicity < 0.1 for lang=en and lang=de",
        "toxicity < 0.1 for lang in {en, de}",
    ),
    _page(
        "PC501",
        "so many prompts cannot decide the threshold",
        """Even the best possible outcome of the planned verification (`check --sat --num_prompts 500`) leaves
        an upper bound above the threshold, at the confidence of the statement shared by all statements of the
        policy. `constraintc plan` says how many prompts it takes.""",
        "P(toxicity >= 0.5) < 0.1%",
        "P(toxicity >= 0.5) < 1%",
    ),
    _page(
        "PC502",
        "only an asymptotic interval exists",
        """The range of what is averaged has no end, so no number of samples gives an exact bound: one rare
        huge value could change the mean. Declare the range, or bound a chance.""",
        "mean(words) <= 100",
        "P(words > 100) <= 5%",
    ),
    _page(
        "PC601",
        "a trusted part is not pinned",
        """`constraintc lock` warns, and `--locked` refuses: a hub model without a commit, a scorer that only
        the command line names, a file or a plug-in that is not there. What nothing pins can change between
        training and verification.""",
        'attribute rude: score { backend = classifier("unitary/toxic-bert", revision="main") }\nrude < 0.1',
        'attribute rude: score { backend = classifier("unitary/toxic-bert", revision="4d6c22e") }\nrude < 0.1',
    ),
    _page(
        "PC602",
        "a requirement rests on a plug-in that may answer differently each time",
        """A verdict that cannot be repeated cannot be checked. Declare `deterministic=true` when equal texts
        always get equal scores, or make the statement a preference.""",
        _GRADE.replace(", deterministic=true", "") + "mean(grade) <= 9",
        _GRADE + "mean(grade) <= 9",
    ),
    _page(
        "PC604",
        "a trusted part is not what was locked",
        """A word list, a model folder, a data file or a plug-in has changed since `constraintc lock` wrote the
        lock, or the policy names another one. The example is refused under a lock of the repaired policy.""",
        'attribute rude: score { backend = classifier("unitary/toxic-bert", revision="0000000") }\nrude < 0.1',
        'attribute rude: score { backend = classifier("unitary/toxic-bert", revision="4d6c22e") }\nrude < 0.1',
    ),
)
ANALYSIS_PAGES: dict[str, Page] = {page.code: page for page in _ALL}
"""All pages by code."""
