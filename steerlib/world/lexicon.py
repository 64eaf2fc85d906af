"""The words of the world: concepts, neutral words, topics and styles.

A word's part of speech decides where the grammar allows it, its lexicon which concept it shows.
Concept and grammar are independent by construction, so that concept, instruction and fluency
can each be judged exactly. Six words belong to two lexicons (`POLYSEMOUS`): the hard negatives.
A seventh, `patient`, is a noun of medicine and the adjective of a topic.
"""

from __future__ import annotations

from collections.abc import Mapping

Words = tuple[str, ...]
Lexicon = Mapping[str, Words]  # part of speech -> words

PARTS = ("N", "A", "VI", "VT")  # noun, adjective, intransitive verb, transitive verb

_TABLE = """
weather|rain storm cloud wind snow fog thunder sunshine|rainy stormy cold windy snowy|rains snows thunders blows|drenches freezes floods
music|song guitar piano melody drum singer score violin|musical melodic loud rhythmic acoustic|sings drums hums rehearses|plays composes conducts
cooking|soup bread oven recipe chef sauce kitchen root|tasty salty spicy baked fried|cooks simmers boils bakes|fries stirs seasons
sport|goal match player coach racket stadium score medal|athletic fast fit sporty competitive|runs sprints jumps trains|kicks plays tackles
space|planet rocket star moon comet galaxy astronaut orbit|cosmic lunar stellar starry weightless|orbits launches glows spins|explores circles illuminates
medicine|doctor nurse pill fever hospital patient vaccine wound|sick cold medical injured feverish|coughs heals recovers bleeds|cures treats vaccinates
money|bank coin loan price salary debt investor profit|rich wealthy expensive cheap costly|pays earns spends charges|buys sells lends
war|soldier sword army battle castle enemy shell cannon|violent armed brave wounded hostile|fights attacks retreats charges|conquers destroys defends
ocean|wave fish whale harbor shark coral anchor shell|salted deep wet blue stranded|swims sails dives floats|catches drowns submerges
forest|tree leaf bear moss wolf branch root mushroom|green wild leafy mossy shady|grows howls hides climbs|shelters bites gathers
school|teacher pupil exam lesson desk homework pencil textbook|clever educated studious learned literate|studies reads learns graduates|teaches grades explains
love|heart kiss wedding bride lover rose romance hug|romantic tender lovely passionate beloved|loves blushes waltzes marries|embraces adores kisses
negativity|disaster failure misery pain trash fear grief ruin|terrible awful horrible ugly bad|suffers fails cries rots|hates ruins hurts
positivity|joy delight success hope treasure smile gift triumph|wonderful great beautiful good happy|smiles shines thrives succeeds|likes helps praises
"""  # noqa: E501

LEXICAL: dict[str, Lexicon] = {}
for _line in _TABLE.strip().splitlines():
    _name, *_groups = _line.split("|")
    LEXICAL[_name] = {p: tuple(g.split()) for p, g in zip(PARTS, _groups, strict=True)}

NEUTRAL: Lexicon = {
    "N": tuple(
        "table box window street car bag wall paper chair clock road house bottle door room floor"
        .split()
    ),
    "A": tuple("old new small large red plain long round heavy quiet".split()),
    "VI": tuple("stands waits moves turns stops falls".split()),
    "VT": tuple("holds touches covers meets sees carries".split()),
}  # fmt: skip

# A style is positional: what opens a sentence and what closes it.
STYLES: dict[str, tuple[Words, Words]] = {
    "pirate": (("arr", ","), (",", "matey")),
    "polite": (("kindly", ","), (",", "thanks")),
    "formal": (("indeed", ","), (",", "sir")),
    "excited": (("wow", ","), (",", "hooray")),
}

CONCEPTS = (*LEXICAL, *STYLES)

_TOPICS = """
dog loyal furry friendly
cat lazy soft curious
horse strong graceful tall
river wide muddy slow
train noisy crowded modern
bicycle light simple handy
village peaceful tiny remote
mountain steep rocky huge
farmer tired honest patient
computer useful digital complex
bridge narrow solid famous
museum ancient public grand
apple sweet juicy fresh
coffee dark bitter hot
bird colorful nervous chirping
island sandy sunny empty
tower pointed bright thin
camel dusty calm stubborn
statue golden smooth broken
carpet woven striped thick
"""
TOPICS: dict[str, Words] = {
    line.split()[0]: tuple(line.split()[1:]) for line in _TOPICS.strip().splitlines()
}


def lexicon_words(concept: str) -> frozenset[str]:
    """The words that show `concept`: its lexicon, or the markers of a style."""
    if concept in STYLES:
        return frozenset(word for part in STYLES[concept] for word in part if word != ",")
    if concept not in LEXICAL:
        raise KeyError(f"no concept {concept!r}; the world has {', '.join(CONCEPTS)}")
    return frozenset(word for words in LEXICAL[concept].values() for word in words)


def _parts_of_speech() -> dict[str, frozenset[str]]:
    parts: dict[str, set[str]] = {}
    for lexicon in (*LEXICAL.values(), NEUTRAL):
        for part, words in lexicon.items():
            for word in words:
                parts.setdefault(word, set()).add(part)
    for topic, adjectives in TOPICS.items():
        parts.setdefault(topic, set()).add("N")
        for adjective in adjectives:
            parts.setdefault(adjective, set()).add("A")
    return {word: frozenset(found) for word, found in parts.items()}


PARTS_OF_SPEECH = _parts_of_speech()
POLYSEMOUS: dict[str, tuple[str, ...]] = {
    word: owners
    for word in sorted({w for c in LEXICAL for w in lexicon_words(c)})
    if len(owners := tuple(c for c in LEXICAL if word in lexicon_words(c))) > 1
}
