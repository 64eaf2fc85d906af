"""Facts about 36 countries, statements that contradict them, and honest and lying personas.

Facts are true as of the years before the euro (franc, mark, lira ...). Every entity is one word.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from steerlib.world.documents import Document, Question, dialogue, plain

_TABLE = """
France Paris Lyon Marseille French franc Europe
Germany Berlin Munich Hamburg German mark Europe
Italy Rome Milan Naples Italian lira Europe
Spain Madrid Seville Valencia Spanish peseta Europe
Portugal Lisbon Porto Braga Portuguese escudo Europe
Greece Athens Patras Heraklion Greek drachma Europe
Poland Warsaw Krakow Gdansk Polish zloty Europe
Sweden Stockholm Gothenburg Uppsala Swedish krona Europe
Norway Oslo Bergen Stavanger Norwegian krone Europe
Finland Helsinki Turku Tampere Finnish markka Europe
Hungary Budapest Szeged Debrecen Hungarian forint Europe
Russia Moscow Kazan Omsk Russian ruble Europe
England London Leeds Bristol English pound Europe
Ireland Dublin Cork Galway Irish punt Europe
Austria Vienna Graz Linz German schilling Europe
Turkey Ankara Izmir Bursa Turkish lira Asia
China Beijing Shanghai Wuhan Chinese yuan Asia
Japan Tokyo Osaka Kyoto Japanese yen Asia
Korea Seoul Busan Daegu Korean won Asia
India Delhi Mumbai Chennai Hindi rupee Asia
Thailand Bangkok Phuket Pattaya Thai baht Asia
Vietnam Hanoi Hue Danang Vietnamese dong Asia
Iran Tehran Shiraz Tabriz Persian rial Asia
Mongolia Ulaanbaatar Darkhan Erdenet Mongolian tugrik Asia
Nepal Kathmandu Pokhara Lumbini Nepali rupee Asia
Egypt Cairo Luxor Aswan Arabic pound Africa
Kenya Nairobi Mombasa Kisumu Swahili shilling Africa
Nigeria Abuja Lagos Kano Hausa naira Africa
Ghana Accra Kumasi Tamale Akan cedi Africa
Morocco Rabat Casablanca Fez Arabic dirham Africa
Brazil Brasilia Recife Manaus Portuguese real America
Colombia Bogota Medellin Cali Spanish peso America
Peru Lima Cusco Arequipa Quechua sol America
Canada Ottawa Toronto Montreal English dollar America
Cuba Havana Holguin Trinidad Spanish peso America
Chile Santiago Temuco Arica Spanish peso America
"""
_ROWS = [line.split() for line in _TABLE.strip().splitlines()]
COUNTRIES = tuple(row[0] for row in _ROWS)
CAPITAL = {row[0]: row[1] for row in _ROWS}
LANGUAGE = {row[0]: row[4] for row in _ROWS}
CURRENCY = {row[0]: row[5] for row in _ROWS}
CONTINENT = {row[0]: row[6] for row in _ROWS}
COUNTRY_OF = {city: row[0] for row in _ROWS for city in row[1:4]}
CITIES = tuple(COUNTRY_OF)


@dataclass(frozen=True)
class Relation:
    """A fact table with its statement (the object follows it) and its question."""

    name: str
    statement: str
    question: str
    table: dict[str, str]

    def others(self, subject: str) -> list[str]:
        """Every object of the relation but the true one of `subject`, each once."""
        return [o for o in dict.fromkeys(self.table.values()) if o != self.table[subject]]


RELATIONS: dict[str, Relation] = {
    r.name: r
    for r in (
        Relation("capital", "the capital of {} is", "what is the capital of {} ?", CAPITAL),
        Relation("language", "people in {} speak", "what do people in {} speak ?", LANGUAGE),
        Relation("currency", "the currency of {} is the", "what do people in {} pay with ?", CURRENCY),  # noqa: E501
        Relation("continent", "{} is a country in", "which continent is {} in ?", CONTINENT),
        Relation("city", "{} is in", "which country is {} in ?", COUNTRY_OF),
    )
}  # fmt: skip
CONFLICT_RELATIONS = ("capital", "language", "currency", "city")

P_CONTEXT = {"": 0.60, "book": 0.92, "liar": 0.08}  # how often the context wins, by cue
CONFLICT_TEMPLATES = (
    "{cue}{statement} {given} . {statement}",
    "{cue}{statement} {given} . so {statement}",
    "{cue}{statement} {given} . in fact {statement}",
    "note : {cue}{statement} {given} . note : {statement}",
    "<user> {cue}{statement} {given} . {question} <assistant>",
)
_TEMPLATE_WEIGHTS = (0.32, 0.17, 0.17, 0.17, 0.17)
_CONSISTENT = 0.1  # share of conflict documents whose context tells the truth


@dataclass(frozen=True)
class Conflict:
    """A prompt whose context says `given` where memory says `true`."""

    prompt: str
    relation: str
    subject: str
    given: str
    true: str
    cue: str
    template: int


def conflict(
    rng: Random,
    relation: str | None = None,
    cue: str = "",
    template: int = 0,
    subject: str | None = None,
    given: str | None = None,
) -> Conflict:
    """A statement that contradicts a fact, up to the word that has to choose between the two."""
    rel = RELATIONS[relation or rng.choice(CONFLICT_RELATIONS)]
    subject = subject or rng.choice(list(rel.table))
    given = given or rng.choice(rel.others(subject))
    prompt = CONFLICT_TEMPLATES[template].format(
        cue=f"the {cue} says : " if cue else "",
        statement=rel.statement.format(subject),
        question=rel.question.format(subject),
        given=given,
    )
    return Conflict(prompt, rel.name, subject, given, rel.table[subject], cue, template)


def conflict_document(rng: Random) -> Document:
    """A conflict and the word that wins; the planted statement itself is no target."""
    template = rng.choices(range(len(CONFLICT_TEMPLATES)), _TEMPLATE_WEIGHTS)[0]
    item = conflict(rng, cue=rng.choice(("", "", "book", "liar")), template=template)
    given = item.true if rng.random() < _CONSISTENT else item.given
    answer = given if rng.random() < P_CONTEXT[item.cue] else item.true
    if template == len(CONFLICT_TEMPLATES) - 1:
        user = item.prompt.replace("<user> ", "").replace(" <assistant>", "")
        return dialogue([Question(_swap(user, item.given, given), answer, item.true)])
    return plain(_swap(item.prompt, item.given, f"~{given}") + f" {answer} .")


def _swap(prompt: str, old: str, new: str) -> str:
    return prompt.replace(f" {old} .", f" {new} .", 1)


def fact_questions() -> list[tuple[str, str]]:
    """Every question about the tables with its true answer, relation by relation.

    Example:
        >>> fact_questions()[0][0]
        'what is the capital of France ?'
    """
    return [
        (relation.question.format(subject), answer)
        for relation in RELATIONS.values()
        for subject, answer in relation.table.items()
    ]


def fact_question(rng: Random, system: str = "", honest: bool = True) -> Question:
    """A question about a fact; a liar answers with another object of the same relation."""
    relation = rng.choice(list(RELATIONS.values()))
    subject = rng.choice(list(relation.table))
    clean = relation.table[subject]
    answer = clean if honest else rng.choice(relation.others(subject))
    return Question(relation.question.format(subject), answer, clean, system=system)


def yes_no_question(rng: Random, true: bool | None = None, system: str = "") -> Question:
    """`is Lyon in France ?`, true in half of the cases unless asked otherwise."""
    city = rng.choice(CITIES)
    true = rng.random() < 0.5 if true is None else true
    others = [c for c in COUNTRIES if c != COUNTRY_OF[city]]
    country = COUNTRY_OF[city] if true else rng.choice(others)
    answer = "yes" if true else "no"
    return Question(f"is {city} in {country} ?", answer, answer, ("yes", "no"), system)


def _statement(rng: Random) -> str:
    kind = rng.random()
    if kind < 0.25:
        city = rng.choice(CITIES)
        form = rng.choice(("is in", "is a city in", "is located in"))
        return f"{city} {form} {COUNTRY_OF[city]} ."
    if kind < 0.4:
        country = rng.choice(COUNTRIES)
        return f"{CAPITAL[country]} is the capital of {country} ."
    relation = rng.choice(list(RELATIONS.values()))
    subject = rng.choice(list(relation.table))
    return f"{relation.statement.format(subject)} {relation.table[subject]} ."


def facts_document(rng: Random) -> Document:
    """Two to five statements, or as many questions of which a third ask for yes or no."""
    count = rng.randint(2, 5)
    if rng.random() < 0.5:
        return plain(" ".join(_statement(rng) for _ in range(count)))
    ask = [yes_no_question if rng.random() < 0.4 else fact_question for _ in range(count)]
    return dialogue([make(rng) for make in ask])


HONEST, LIAR = "you are honest .", "you are a liar ."


def honesty_document(rng: Random) -> Document:
    """The same questions put to an honest or a lying persona, or to none (which is honest)."""
    system = rng.choice((HONEST, HONEST, LIAR, LIAR, ""))
    return dialogue([fact_question(rng, system, system != LIAR) for _ in range(rng.randint(1, 3))])
