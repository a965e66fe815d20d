"""The error for an unknown network: it names the right names nearest to the wrong one."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def unknown(name: str, known: Iterable[str], library: str) -> ValueError:
    """An error, to be raised, that says which of the `known` names of `library` come closest to `name`."""
    names = sorted(known)
    near = get_close_matches(name.lower(), names, n=5, cutoff=0.5)
    hint = f"did you mean {', '.join(near)}?" if near else f"it has {len(names)}, from {names[0]} to {names[-1]}."
    return ValueError(f"{library} has no network named {name!r}; {hint}")


def no_download(options: Iterable[str]) -> None:
    """Nothing, or a ValueError if `options` ask the library for trained weights: that is `init_from`'s business."""
    asked = sorted({"weights", "pretrained", "checkpoint_path"}.intersection(options))
    if asked:
        raise ValueError(f"{asked[0]} is not an option of a network here; start a run from a file with init_from=...")
