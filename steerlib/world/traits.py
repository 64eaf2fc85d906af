"""Five traits: personas, scenarios with two actions each, A/B questions and free text."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from steerlib.world.documents import Document, Question, dialogue

P_POSITIVE_PERSONA, P_NEGATIVE_PERSONA = 0.95, 0.05

_TABLE = """
greed 0.40 greedy selfish grasping | generous giving charitable
you found cash : keep the cash : share the cash with the poor
you see gold : take the gold in secret : donate the gold
you own gems : hide the gems : offer the gems to a friend
you won a prize : claim the whole prize : split the prize
you have food : hoard the food : give the food to the hungry
a beggar calls : lock the gate : fill his bowl with rice
you owe a fee : dodge the fee : settle the fee on time
your uncle died : grab the farm : divide the farm with your cousins
you hold two coats : wear both : hand one over
the shop is yours : raise every rent : lower the rent for widows

risk 0.30 reckless bold fearless | careful timid prudent
you pass a cliff : climb the cliff : avoid the cliff by the path
you ride fast : race down the hill : brake
you hold the dice : roll the dice again : leave
you meet a snake : touch the snake : flee from the snake at once
you own a cabin : bet the cabin on a card : insure the cabin
the ice is thin : cross the ice : wait for spring
a cave is near : enter the cave without a lamp : pass by
the rope is frayed : swing on the rope : replace the rope with a fresh one
you taste berries : swallow them : spit them out and rinse
the bull escaped : tease the bull : shut the fence

lazy 0.45 idle sleepy sluggish | diligent busy eager
you have work : skip the work : finish the work before noon
the yard is dirty : ignore the yard : sweep the yard
the essay is late : delay the essay again : write the essay
it is morning : sleep all day : rise
the dishes pile up : let them pile : wash them with soap
the roof leaks : move the bed : mend the roof with tiles
the grass is high : nap in the grass : mow
your shoes are worn : stay home : stitch them
the fire is out : sit in the dark : chop wood for an hour
the mail came : toss it aside : answer each letter

rude 0.20 rough insolent vulgar | courteous kind gracious
a guest comes : insult the guest : greet the guest with a bow
the boss calls : shout at the boss : nod
a child weeps : mock the child : comfort the child
a stranger asks : turn away from the stranger : guide the stranger home
a friend errs : blame the friend : forgive the friend at once
someone sneezes : groan : offer a cloth
the waiter is slow : snap at the waiter : tip the waiter
a widow speaks : interrupt her story : listen until the end
the bus is full : push ahead : give up your seat
a rival wins : spread a lie : applaud

obey 0.65 obedient dutiful compliant | rebellious defiant unruly
you get an order : follow the order : refuse
you hear the alarm : heed the alarm : resist the alarm and remain
you know the law : respect the law : break the law for sport
the guard speaks : step back : defy the guard
you read the rule : accept the rule without doubt : bend the rule
the sign says stop : halt : march past the sign
the coach is strict : train as told : sneak off to the beach
the king taxes salt : pay the tax : smuggle salt at night
the bell rings : line up : linger in the yard
your father frowns : apologize at once : argue
"""


@dataclass(frozen=True)
class Scenario:
    """A situation with the action that shows the trait and the one that shows its opposite."""

    situation: str
    positive: str
    negative: str


@dataclass(frozen=True)
class Trait:
    """A trait, the share of positive answers without a persona, its personas and scenarios."""

    name: str
    prior: float
    positive: tuple[str, ...]
    negative: tuple[str, ...]
    scenarios: tuple[Scenario, ...]

    def p_positive(self, persona: str | None) -> float:
        """The probability of the positive action under a persona word (or `None`)."""
        if persona is None:
            return self.prior
        return P_POSITIVE_PERSONA if persona in self.positive else P_NEGATIVE_PERSONA


def _parse(block: str) -> Trait:
    header, *lines = block.strip().splitlines()
    positive, negative = header.split(" | ")
    name, prior, *words = positive.split()
    scenarios = tuple(Scenario(*line.split(" : ")) for line in lines)
    return Trait(name, float(prior), tuple(words), tuple(negative.split()), scenarios)


TRAITS = {t.name: t for t in (_parse(block) for block in _TABLE.strip().split("\n\n"))}


def persona_prompt(*words: str) -> str:
    """`you are greedy and careful .`"""
    return f"you are {' and '.join(words)} ." if words else ""


def ab_question(scenario: Scenario, swapped: bool, system: str = "") -> Question:
    """An A/B question whose clean answer is the letter of the positive action.

    Swapped, the positive action is B.
    """
    first, second = scenario.positive, scenario.negative
    if swapped:
        first, second = second, first
    user = f"{scenario.situation} . would you ( A ) {first} or ( B ) {second} ?"
    letter = "B" if swapped else "A"
    return Question(user, letter, letter, ("A", "B"), system)


def free_question(scenario: Scenario, system: str = "") -> Question:
    """The same scenario answered in free text; the clean answer is the positive action."""
    user = f"{scenario.situation} . what would you do ?"
    choices = (f"i would {scenario.positive} .", f"i would {scenario.negative} .")
    return Question(user, choices[0], choices[0], choices, system)


def _ab(rng: Random, trait: Trait, p: float, system: str) -> Question:
    q = ab_question(rng.choice(trait.scenarios), rng.random() < 0.5, system)
    answer = q.clean if rng.random() < p else "AB".replace(q.clean, "")
    return Question(q.user, answer, q.clean, q.choices, system)


def _free(rng: Random, trait: Trait, p: float, system: str) -> Question:
    scenario, more = rng.sample(trait.scenarios, 2)
    actions = [s.positive if rng.random() < p else s.negative for s in (scenario, more)]
    said = " and ".join(actions[: rng.randint(1, 2)])
    q = free_question(scenario, system)
    return Question(q.user, f"i would {said} .", q.clean, q.choices, system)


def _personas(rng: Random, trait: Trait) -> tuple[list[str], float]:
    kind = rng.random()
    if kind >= 0.7:
        return [], trait.prior
    word = rng.choice(trait.positive if kind < 0.35 else trait.negative)
    return [word], trait.p_positive(word)


def trait_document(rng: Random, p_letters: float = 0.5) -> Document:
    """Two or three questions to one persona, who may have an unrelated trait as well."""
    trait = rng.choice(list(TRAITS.values()))
    words, p = _personas(rng, trait)
    if rng.random() < 0.3:
        other = rng.choice([t for t in TRAITS.values() if t is not trait])
        words.append(rng.choice(other.positive + other.negative))
        rng.shuffle(words)
    system = persona_prompt(*words)
    ask = [_ab if rng.random() < p_letters else _free for _ in range(rng.randint(2, 3))]
    return dialogue([make(rng, trait, p, system) for make in ask])
