"""What a scorer is: a callable in the shape of TRL's reward functions, and the terms on which it may be called."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Terms:
    """How the pool may call a scorer, which states it in an attribute ``terms``; one without it has these defaults.

    ``identity`` names everything that a score follows from besides prompt and completion: kind, model, revision,
    digests of files, version. Scores are kept on disk under it, never without one. Who reads columns has none. Where it
    takes time to find, it is a function, called when scores are first kept.
    ``is_costly``: its scores are kept on disk unless that is turned off; those of others when a folder is named.
    ``batch_size`` texts make a call, ``at_once`` calls run together, in threads, and ``per_second`` begin in a second.
    A call that raises ``ScorerUnavailable`` is made ``attempts`` times. ``is_bounded``: a call ends by itself in time,
    so that the pool's time-out is not needed. ``reads_columns``: its scores may follow from the other columns of a row,
    too; those of a scorer with an ``identity`` never do.
    """

    identity: str | Callable[[], str | None] | None = None
    is_costly: bool = False
    batch_size: int | None = None
    at_once: int = 1
    per_second: float | None = None
    attempts: int = 5
    is_bounded: bool = False
    reads_columns: bool = True

    @property
    def follow_columns(self) -> bool:
        """Whether two rows with one prompt and one completion may have two scores."""
        return self.reads_columns and self.identity is None

    def named(self) -> str | None:
        """The identity, found now if need be."""
        return self.identity() if callable(self.identity) else self.identity


TEXT_ALONE = Terms(reads_columns=False)  # of a scorer that reads prompts and completions, nothing else


class Scorer(Protocol):
    """``scorer(prompts=..., completions=..., **columns)`` gives one float, or None when unavailable, per completion.

    Scores must not depend on the other completions of the call: the pool batches and reorders as it likes. A scorer
    that cannot score now raises ``ScorerUnavailable`` and is asked again.
    """

    def __call__(
        self, *, prompts: Sequence[str], completions: Sequence[str], **columns: Any
    ) -> Sequence[float | None]:
        """Score each completion."""
        ...


def terms_of(scorer: Scorer) -> Terms:
    """The terms that a scorer states, else the defaults."""
    found = getattr(scorer, "terms", None)
    return found if isinstance(found, Terms) else Terms()
