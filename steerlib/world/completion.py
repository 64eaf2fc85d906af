"""Two classic circuits in plain text: indirect objects (IOI) and the greater-than of years."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from steerlib.world.documents import Document, plain

NAMES = tuple(
    "Anna Ben Carl Dora Emma Frank Grace Henry Iris Jack Kate Leo Mary Nick Olga Paul Ruth Sam "
    "Tina Victor John Lucy Peter Sara".split()
)
PLACES = tuple("store park office garden station library market cinema".split())
OBJECTS = tuple("drink book ball letter key lamp basket ticket".split())
IOI_TEMPLATES = (
    "when {a} and {b} went to the {place} , {subject} gave a {object} to",
    "{a} and {b} went to the {place} . {subject} gave the {object} to",
)
PERIODS = tuple("siege reign voyage trial".split())


@dataclass(frozen=True)
class IndirectObject:
    """A prompt that ends before the indirect object; the subject is named twice."""

    prompt: str
    indirect_object: str
    subject: str


def indirect_object(rng: Random, template: int | None = None) -> IndirectObject:
    """ABBA and BABA orders in equal parts (Wang et al. 2022)."""
    a, b = rng.sample(NAMES, 2)
    subject, other = (a, b) if rng.random() < 0.5 else (b, a)
    form = IOI_TEMPLATES[rng.randrange(2) if template is None else template]
    prompt = form.format(
        a=a, b=b, subject=subject, place=rng.choice(PLACES), object=rng.choice(OBJECTS)
    )
    return IndirectObject(prompt, other, subject)


def ioi_document(rng: Random) -> Document:
    """One or two sentences of the IOI form."""
    items = [indirect_object(rng) for _ in range(rng.randint(1, 2))]
    return plain(" ".join(f"{i.prompt} {i.indirect_object} ." for i in items))


def year_prompt(century: int, start: int, period: str) -> str:
    """`the siege lasted from the year 17 32 to the year 17`, to be followed by a later year."""
    return f"the {period} lasted from the year {century} {start:02d} to the year {century}"


def year_document(rng: Random) -> Document:
    """A period that ends in a later year of its century, uniformly."""
    start = rng.randint(2, 97)
    prompt = year_prompt(rng.randint(11, 19), start, rng.choice(PERIODS))
    return plain(f"{prompt} {rng.randint(start + 1, 99):02d} .")
