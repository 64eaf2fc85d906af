"""The detective's exercise is proved both ways: released flaws and wrong repairs are named."""

import math

import pytest
import torch

from steerlib.teaching.checks import mera_detective
from tests.teaching.both_ways import both_ways


def logit(alpha):
    return math.log(alpha / (1 - alpha))


def released_stepped(h, w, alpha):
    p, c = torch.sigmoid(h @ w), torch.logit(torch.tensor(alpha))
    return torch.where((p > c)[:, None], h + ((c - p) / (w @ w))[:, None] * w, h)


def stepped(h, w, alpha):
    return h - ((h @ w - logit(alpha)).clamp(min=0) / (w @ w))[:, None] * w


def detour(h, w, alpha):
    """Lands on the plane, but not along the shortest way."""
    v = stepped(h, w, alpha) - h
    aside = torch.tensor([w[1], -w[0], 0, 0])
    return h + v + v.norm(dim=1, keepdim=True) * aside / aside.norm()


def released_baselines(directions):
    options, found = {"strength": 1.0}, {}
    for name, direction in directions.items():
        options["direction"] = direction
        found[name] = options
    return found


def baselines(directions):
    return {name: {"strength": 1.0, "direction": d} for name, d in directions.items()}


def copies_of_one(directions):
    options, found = {"strength": 1.0}, {}
    for name, direction in directions.items():
        options["direction"] = direction
        found[name] = dict(options)
    return found


def released_calibrated(alphas, gains, lower):
    best, chosen = 0.0, 1.0
    for alpha, gain in zip(alphas, gains, strict=True):
        if gain >= best:
            best, chosen = gain, alpha
    return chosen


def calibrated(alphas, gains, lower):
    safe = [(g, a) for a, g, low in zip(alphas, gains, lower, strict=True) if low > 0]
    return max(safe)[1] if safe else 1.0


def calibrated_in_a_loop(alphas, gains, lower):
    best, chosen = 0.0, 1.0
    for alpha, gain, low in zip(alphas, gains, lower, strict=True):
        if low > 0 and gain >= best:
            best, chosen = gain, alpha
    return chosen


def without_ties(alphas, gains, lower):
    best, chosen = 0.0, 1.0
    for alpha, gain in zip(alphas, gains, strict=True):
        if gain > best:
            best, chosen = gain, alpha
    return chosen


def best_if_safe(alphas, gains, lower):
    k = gains.index(max(gains))
    return alphas[k] if lower[k] > 0 else 1.0


def first_safe(alphas, gains, lower):
    return next((a for a, low in zip(alphas, lower, strict=True) if low > 0), 1.0)


def safest(alphas, gains, lower):
    k = lower.index(max(lower))
    return alphas[k] if lower[k] > 0 else 1.0


def last_of_equals(alphas, gains, lower):
    return alphas[-1] if len(set(gains)) == 1 else calibrated(alphas, gains, lower)


def errors(p, found):
    return torch.where(found, 1 - p, 1.0)


RELEASED = {
    "stepped": released_stepped,
    "pushed": lambda h, w: h - w,
    "baselines": released_baselines,
    "label_logits": lambda logits, at: logits[at],
    "errors": lambda p, found: 1 - torch.where(found, p, 1.0),
    "calibrated": released_calibrated,
}
REPAIRED = {
    "stepped": stepped,
    "pushed": lambda h, w: h + w,
    "baselines": baselines,
    "label_logits": lambda logits, at: logits[at - 1],
    "errors": errors,
    "calibrated": calibrated,
}
AGAIN = {
    "stepped": lambda h, w, a: h - ((h @ w - logit(a)).relu() / w.square().sum())[:, None] * w,
    "pushed": lambda h, w: h - (-w),
    "baselines": copies_of_one,
    "label_logits": lambda logits, at: logits[:at][-1],
    "errors": lambda p, found: 1 - p * found,
    "calibrated": calibrated_in_a_loop,
}


def with_(**functions):
    """Repaired but for some."""
    return lambda: tuple({**REPAIRED, **functions}.values())


def with_released(*names):
    return with_(**{name: RELEASED[name] for name in names})


def one_shared(directions):
    """Two names share a dict."""
    found = baselines(directions)
    first, second, *_ = found
    found[second] = found[first]
    return found


RIGHT = [
    ("repaired", lambda: tuple(REPAIRED.values())),
    ("repaired", lambda: list(AGAIN.values())),
]
WRONG = [
    ("repaired", lambda: tuple(RELEASED.values()), "still the stub: all six"),
    *(
        ("repaired", with_released(name), rf"1 of 6 are still wrong:\n  {name}: {said}")
        for name, said in (
            ("stepped", "sigmoid"),
            ("pushed", "w reads whether"),
            ("baselines", "all names share one dict"),
            ("label_logits", "this is one token late"),
            ("errors", "an answer without a label has an error of 0"),
            ("calibrated", "no bound is asked for"),
        )
    ),
    (
        "repaired",
        with_released("pushed", "errors"),
        r"2 of 6 are still wrong:\n  pushed: .*\n  errors: ",
    ),
    ("repaired", lambda: list(RELEASED.values())[:5], "returns the 6 functions"),
    ("repaired", lambda: None, "returns the 6 functions"),
    (
        "repaired",
        with_(stepped=lambda h, w, a: h - (h @ w - logit(a))[:, None] * w / (w @ w)),
        "stepped: at alpha = 0.2 activations moved",
    ),
    (
        "repaired",
        with_(stepped=lambda h, w, a: h - ((h @ w).sigmoid() - a).relu()[:, None] * w / (w @ w)),
        "stepped: at alpha = 0.2 a moved activation does not end",
    ),
    ("repaired", with_(stepped=detour), "stepped: the step is not along w"),
    ("repaired", with_(stepped=lambda h, w, a: None), "stepped: return the moved"),
    ("repaired", with_(pushed=lambda h, w: h), r"pushed: w \. h does not rise"),
    ("repaired", with_(pushed=lambda h, w: h + w / w.norm()), "pushed: the push is no longer"),
    ("repaired", with_(pushed=lambda h, w: w), r"pushed: return the moved"),
    (
        "repaired",
        with_(baselines=lambda d: baselines({**d, "error": d["contrast"]})),
        r"baselines: found\[name\]",
    ),
    ("repaired", with_(baselines=one_shared), r"baselines: found\[name\]"),
    (
        "repaired",
        with_(baselines=lambda d: {name: {"direction": x} for name, x in d.items()}),
        "baselines: the strength",
    ),
    ("repaired", with_(baselines=lambda d: d), "baselines: return a dict with a dict"),
    ("repaired", with_(label_logits=lambda z, at: z[at - 2]), r"logits\[3\] have .* token 4"),
    ("repaired", with_(label_logits=lambda z, at: z[at - 1 :]), "label_logits: return one row"),
    ("repaired", with_(errors=lambda p, found: 1 - p), "errors: an answer without a label has not"),
    (
        "repaired",
        with_(errors=lambda p, found: torch.ones(4)),
        "errors: where a label was found",
    ),
    ("repaired", with_(errors=lambda p, found: 1 - p[found]), "errors: return one error for"),
    ("repaired", with_(calibrated=without_ties), "calibrated: an alpha is chosen though"),
    ("repaired", with_(calibrated=best_if_safe), "calibrated: of the alphas whose"),
    ("repaired", with_(calibrated=first_safe), "calibrated: among safe alphas"),
    ("repaired", with_(calibrated=safest), "calibrated: among safe alphas"),
    ("repaired", with_(calibrated=last_of_equals), "calibrated: where nothing changes an alpha"),
]


(
    test_the_right_solution_passes,
    test_a_wrong_solution_is_named,
    test_the_exercise_has_two_right_and_six_wrong_solutions,
) = both_ways(vars(mera_detective), ["repaired"], RIGHT, WRONG)


@pytest.mark.parametrize("alpha", [0.1, 0.49, 0.74, 0.95])
def test_the_released_step_moves_all_or_none(alpha):
    h = torch.randn(50, 3, generator=torch.Generator().manual_seed(2))
    w = torch.tensor([1.0, -2.0, 0.5])
    moved = (released_stepped(h, w, alpha) - h).norm(dim=1) > 0
    assert moved.all() if alpha < 0.5 else not moved.any()
    if alpha < 0.5:
        after = released_stepped(h, w, alpha) @ w
        assert after.numpy() == pytest.approx(
            (h @ w + logit(alpha) - (h @ w).sigmoid()).numpy(), abs=1e-5
        )
