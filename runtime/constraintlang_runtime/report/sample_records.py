"""The samples that a report holds, and the distribution of their scores, as records."""

from __future__ import annotations

from .records import Record


class SampleText(Record, frozen=True, kw_only=True):
    """One completion, with the score that judged it; ``violates`` is None when no clause judged it alone.

    The texts may be cut; ``prompt_length`` and ``completion_length`` count the characters of the whole ones then.
    """

    prompt: str
    completion: str
    domain: str = ""
    score: float | None = None
    violates: bool | None = None
    clause: str = ""
    prompt_length: int | None = None
    completion_length: int | None = None


class ScoreSeries(Record, frozen=True, kw_only=True):
    """The scores of one system: how many replies lie in each bin; ``beyond``: how many on the wrong side.

    ``beyond`` counts for the first threshold; ``missing`` replies have no score.
    """

    system: str
    counts: tuple[int, ...]
    beyond: int
    missing: int = 0


class ScoreThreshold(Record, frozen=True, kw_only=True):
    """A number that a statement compares the score with; ``allowed`` is the sign of the allowed side."""

    value: float
    allowed: str


class ScoreHistogram(Record, frozen=True, kw_only=True):
    """The scores of an attribute on the replies of one clause, system by system, over the same bins.

    A score of ``edges[i]`` counts for the bin that begins there; the last bin holds its end, too.
    """

    attribute: str
    clause: str
    edges: tuple[float, ...]
    thresholds: tuple[ScoreThreshold, ...]
    series: tuple[ScoreSeries, ...]
