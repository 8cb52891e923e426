"""What a model is called: a folder here, or an id of the hub with the revision that it is pinned to; no torch."""

from __future__ import annotations

import os
import re
from pathlib import Path

HUB_ID = "OWNER/NAME"
_PART = r"(?![.-])[\w.-]+"
_IS_HUB_ID = re.compile(rf"({_PART}(?:/{_PART})?)(?:@([\w][\w./-]*))?")


def is_hub_id(name: str) -> bool:
    """Whether a name is written as an id of the hub, ``OWNER/NAME`` or ``OWNER/NAME@REVISION``."""
    return _IS_HUB_ID.fullmatch(name) is not None


def split_revision(name: str) -> tuple[str, str | None]:
    """``OWNER/NAME@REVISION`` -> its two parts; a name without a revision, or of something here, stays whole.

    The revision is a branch, a tag or a commit of the hub; a commit alone never moves.
    """
    found = None if os.path.exists(name) else _IS_HUB_ID.fullmatch(name)
    return (name, None) if found is None else (found[1], found[2])


def commit_of(name: str, revision: str | None = None) -> str | None:
    """The commit of the hub whose files were loaded last under a name; None for a folder. Asked of the cache alone."""
    if os.path.exists(name) or not is_hub_id(name):
        return None
    from huggingface_hub import try_to_load_from_cache

    own, pinned = (name, revision) if revision is not None else split_revision(name)
    for file in ("config.json", "adapter_config.json"):
        path = try_to_load_from_cache(own, file, revision=pinned)
        if isinstance(path, str):
            return Path(path).parent.name
    return None
