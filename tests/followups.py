"""Questions that continue a conversation, and the notes that answer them."""

from typing import NamedTuple

_CITIES = {
    "Paris": ("France", "the Seine", "2.1 million", "the Louvre", "14"),
    "Madrid": ("Spain", "the Manzanares", "3.3 million", "the Prado", "13"),
    "Vienna": ("Austria", "the Danube", "2.0 million", "the Belvedere", "5"),
    "Lisbon": ("Portugal", "the Tagus", "0.5 million", "the Gulbenkian", "4"),
    "Oslo": ("Norway", "the Akerselva", "0.7 million", "the Munch", "5"),
    "Rome": ("Italy", "the Tiber", "2.8 million", "the Borghese Gallery", "3"),
}
_PLANS = {
    "Basic": ("9 euros", "one user", "5 GB", "within three days"),
    "Team": ("29 euros", "ten users", "100 GB", "within one day"),
    "Business": ("99 euros", "fifty users", "1 TB", "within two hours"),
}
_PEOPLE = {
    "Marie Curie": (
        "radium and polonium",
        "Warsaw in 1867",
        "physics in 1903 and chemistry in 1911",
    ),
    "Alexander Fleming": ("penicillin", "Darvel in 1881", "medicine in 1945"),
    "Otto Hahn": ("nuclear fission", "Frankfurt in 1879", "chemistry in 1944"),
    "Barbara McClintock": ("transposable genes", "Hartford in 1902", "medicine in 1983"),
}


def notes() -> dict[str, str]:
    """Return the notes by id."""
    found: dict[str, str] = {}
    for city, (country, river, people, museum, lines) in _CITIES.items():
        found |= {
            f"{city} river": f"{city}, the capital of {country}, lies on {river}.",
            f"{city} people": f"{people} people live in {city}.",
            f"{city} museum": f"The most visited museum of {city} is {museum}. It opens at ten.",
            f"{city} metro": f"The metro of {city} has {lines} lines. Tickets last an hour.",
        }
    for plan, (price, users, space, support) in _PLANS.items():
        found |= {
            f"{plan} price": f"The {plan} plan costs {price} a month.",
            f"{plan} users": f"The {plan} plan includes {users}.",
            f"{plan} space": f"The {plan} plan has {space} of storage.",
            f"{plan} support": f"Support answers customers of the {plan} plan {support}.",
        }
    for name, (work, birth, prize) in _PEOPLE.items():
        found |= {
            f"{name} work": f"{name} is known for the discovery of {work}.",
            f"{name} birth": f"{name} was born in {birth}.",
            f"{name} prize": f"{name} won the Nobel Prize in {prize}.",
        }
    return found


class FollowUp(NamedTuple):
    """A conversation, the question that continues it, and the note that answers the question."""

    history: list[tuple[str, str]]
    question: str
    note: str


def _turns(*texts: str) -> list[tuple[str, str]]:
    return [(("user", "assistant")[at % 2], text) for at, text in enumerate(texts)]


_SEINE = _turns("Which river does Paris lie on?", "Paris lies on the Seine.")
_VIENNA = _turns("How many people live in Vienna?", "About 2.0 million.")
_PRADO = _turns("What is the most visited museum of Madrid?", "The Prado.")
_TEAM = _turns("How much does the Team plan cost?", "29 euros a month.")
_FLEMING = _turns("Who discovered penicillin?", "Alexander Fleming did.")
_RADIUM = _turns("Who discovered radium?", "Marie Curie discovered radium and polonium.")
_LONG = [*_SEINE, *_VIENNA, *_PRADO]

FOLLOW_UPS = [
    # The question names only what is new.
    FollowUp(_SEINE, "And Vienna?", "Vienna river"),
    FollowUp(_SEINE, "And Rome?", "Rome river"),
    FollowUp(_VIENNA, "And in Paris?", "Paris people"),
    FollowUp(_VIENNA, "What about Lisbon?", "Lisbon people"),
    FollowUp(_PRADO, "And of Oslo?", "Oslo museum"),
    FollowUp(_PRADO, "What about in Rome?", "Rome museum"),
    FollowUp(_TEAM, "And the Business plan?", "Business price"),
    FollowUp(_TEAM, "And Basic?", "Basic price"),
    FollowUp(
        _turns("How many lines has the metro of Lisbon?", "Four."), "And Madrid?", "Madrid metro"
    ),
    FollowUp(_turns("How much storage has the Basic plan?", "5 GB."), "And Team?", "Team space"),
    # The question leaves out what the user named before.
    FollowUp(_SEINE, "How many people live there?", "Paris people"),
    FollowUp(_SEINE, "How many metro lines are there?", "Paris metro"),
    FollowUp(_VIENNA, "Which river does it lie on?", "Vienna river"),
    FollowUp(_VIENNA, "Which museum is the most visited?", "Vienna museum"),
    FollowUp(_PRADO, "How many metro lines does the city have?", "Madrid metro"),
    FollowUp(_TEAM, "How many users does it include?", "Team users"),
    FollowUp(_TEAM, "How much storage does it have?", "Team space"),
    FollowUp(_TEAM, "When does support answer?", "Team support"),
    # The answer named what the question is about.
    FollowUp(_FLEMING, "Where was he born?", "Alexander Fleming birth"),
    FollowUp(_FLEMING, "When did he win the Nobel Prize?", "Alexander Fleming prize"),
    FollowUp(_RADIUM, "Where was she born?", "Marie Curie birth"),
    FollowUp(_RADIUM, "Which prizes did she win?", "Marie Curie prize"),
    FollowUp(
        _turns("Who discovered nuclear fission?", "Otto Hahn."),
        "Where was he born?",
        "Otto Hahn birth",
    ),
    FollowUp(
        _turns("Which plan has support within two hours?", "The Business plan."),
        "How much does it cost?",
        "Business price",
    ),
    # The conversation is longer.
    FollowUp(_LONG, "And of Lisbon?", "Lisbon museum"),
    FollowUp(_LONG, "How many people live there?", "Madrid people"),
    FollowUp([*_TEAM, *_SEINE], "And Oslo?", "Oslo river"),
    # The question is about something else.
    FollowUp(_SEINE, "How much does the Basic plan cost?", "Basic price"),
    FollowUp(_TEAM, "Where was Barbara McClintock born?", "Barbara McClintock birth"),
    FollowUp(_FLEMING, "How many lines does the metro of Rome have?", "Rome metro"),
    FollowUp(_LONG, "How many users does the Team plan include?", "Team users"),
    FollowUp(_RADIUM, "Which river does Lisbon lie on?", "Lisbon river"),
]
