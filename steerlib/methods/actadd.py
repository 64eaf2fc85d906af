"""ActAdd: the difference between two prompts, added position by position.

Chapter: directions.
"""

from __future__ import annotations

from steerlib.core.capture import capture
from steerlib.core.interventions import Add, Intervention, Origin
from steerlib.core.model import Model
from steerlib.core.positions import after, everywhere
from steerlib.core.prompts import Prompt, encode
from steerlib.core.sites import Site, as_site


def actadd(
    model: Model,
    plus: Prompt,
    minus: Prompt,
    site: Site | str,
    *,
    pad: str | None = None,
    chat: bool | None = False,
) -> Intervention:
    """Activation addition: the difference between two prompts, position by position.

    The row of position t, h_t(plus) - h_t(minus), is added at position t of the steered prompt.
    Positions that both prompts begin with, such as BOS, have no difference and no term.

    Args:
        plus, minus: two prompts of the same number of tokens.
        pad: text of one token that is appended to the shorter prompt, such as " ".

    Returns:
        A sum of `Add`s, one per position. A steered prompt must be as long as the two prompts.

    Raises:
        ValueError: prompts of different numbers of tokens without `pad`, or equal prompts.

    Source: Turner et al. 2023, section 3. Chapter: directions.

    Example:
        >>> st.actadd(model, "the storm", "the calm", st.resid(1))
    """
    where = as_site(site)
    both = _padded(model, plus, minus, pad, chat)
    h = [
        capture(model, [text], where, everywhere, chat=chat, include_bos=True)[where]
        for text in both
    ]
    ids = [encode(model, [text], chat)[0] for text in both]
    same = next((n for n, (a, b) in enumerate(zip(*ids, strict=True)) if a != b), None)
    if same is None:
        raise ValueError(f"both prompts are the same tokens, {plus!r}: there is no difference")
    parts = [
        Add(where, h[0][t] - h[1][t]).at(after(t - 1) - after(t)) for t in range(same, len(ids[0]))
    ]
    terms = tuple(term for part in parts for term in part.terms)
    return Intervention(terms, Origin(model.id, model.revision, "actadd"))


def _padded(
    model: Model, plus: Prompt, minus: Prompt, pad: str | None, chat: bool | None
) -> list[Prompt]:
    """Both prompts with the same number of tokens."""
    texts = [plus, minus]
    sizes = [len(encode(model, [text], chat)[0]) for text in texts]
    short = int(sizes[1] < sizes[0])
    missing = abs(sizes[0] - sizes[1])
    if missing and (pad is None or not isinstance(texts[short], str)):
        raise ValueError(
            f"the prompts have {sizes[0]} and {sizes[1]} tokens, but are subtracted position by "
            "position; choose prompts of equal length, or give strings and pad=' '"
        )
    if missing:
        texts[short] = f"{texts[short]}{pad * missing}"  # type: ignore[operator]
        if len(encode(model, [texts[short]], chat)[0]) != max(sizes):
            raise ValueError(f"pad={pad!r} is not one token of {model.id} after {texts[short]!r}")
    return texts
