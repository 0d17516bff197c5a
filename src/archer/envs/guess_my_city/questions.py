"""Understanding questions about a city: what they ask for, and the answer from the table of facts."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache

from archer.envs.guess_my_city.facts import City, load_cities, mentioned, names_city, words

YES, NO, UNKNOWN, SECRET = "Yes.", "No.", "I don't know.", "I can't answer that question."
LONGEST = 300
"""Characters beyond which a question is not read, so that no utterance can cost more than a look-up."""

Truth = Callable[[City], bool]
Answer = Callable[[City], str]

_OPEN = {"what", "which", "whats", "tell", "where", "how", "describe", "name", "who", "could", "can"}
"""Words that begin a question for a fact and not for yes or no; could and can, where ``you tell`` follows."""

_DIRECTIONS = {
    "north", "south", "east", "west", "northern", "southern", "eastern", "western", "central",
    "northeast", "northeastern", "northwest", "northwestern", "southeast", "southeastern", "southwest", "southwestern",
}  # fmt: skip
_NAMED = re.compile(r"(?<=\s)([A-Z]\w+) (River|Sea|Ocean|Mountains?|Islands?|Province|State|Coast)\b")

_MIDDLE_EAST = {"Turkey", "Iraq", "Iran", "Egypt"}


def _in_region(*regions: str) -> Truth:
    return lambda city: city.region in regions


# Phrase -> what has to be true. Longer phrases are tried first; the first that stands in a question is what it asks.
_YES_NO: dict[str, Truth] = {
    "asia": lambda city: city.continent == "Asia",
    "asian": lambda city: city.continent == "Asia",
    "europe": lambda city: city.continent == "Europe",
    "european": lambda city: city.continent == "Europe",
    "africa": lambda city: city.continent == "Africa",
    "african": lambda city: city.continent == "Africa",
    "north america": lambda city: city.continent == "North America",
    "south america": lambda city: city.continent == "South America",
    "southwest asia": _in_region("Western Asia"),
    "the americas": lambda city: city.continent in ("North America", "South America"),
    "oceania": lambda city: city.continent == "Oceania",
    "latin america": _in_region("Latin America and the Caribbean"),
    "caribbean": lambda city: city.country == "Cuba",
    "middle east": lambda city: city.country in _MIDDLE_EAST,
    "east asia": _in_region("Eastern Asia"),
    "eastern asia": _in_region("Eastern Asia"),
    "southeast asia": _in_region("South-eastern Asia"),
    "southeastern asia": _in_region("South-eastern Asia"),
    "south east asia": _in_region("South-eastern Asia"),
    "south asia": _in_region("Southern Asia"),
    "southern asia": _in_region("Southern Asia"),
    "indian subcontinent": lambda city: city.country in ("India", "Pakistan", "Bangladesh"),
    "central asia": _in_region("Central Asia"),
    "western asia": _in_region("Western Asia"),
    "north africa": _in_region("Northern Africa"),
    "eastern europe": _in_region("Eastern Europe"),
    "western europe": _in_region("Western Europe"),
    "southern europe": _in_region("Southern Europe"),
    "northern europe": _in_region("Northern Europe"),
    "northern hemisphere": lambda city: city.latitude > 0,
    "southern hemisphere": lambda city: city.latitude < 0,
    "western hemisphere": lambda city: city.longitude < 0,
    "eastern hemisphere": lambda city: city.longitude > 0,
    "equator": lambda city: abs(city.latitude) < 10,
    "tropics": lambda city: abs(city.latitude) < 23.5,
    "capital": lambda city: city.capital,
    "coast": lambda city: city.coast,
    "coastal": lambda city: city.coast,
    "coastline": lambda city: city.coast,
    "sea": lambda city: city.coast,
    "seaside": lambda city: city.coast,
    "ocean": lambda city: city.coast,
    "port": lambda city: city.coast,
    "harbor": lambda city: city.coast,
    "harbour": lambda city: city.coast,
    "beaches": lambda city: city.coast,
    "body of water": lambda city: city.coast or city.river != "none",
    "inland": lambda city: not city.coast,
    "landlocked": lambda city: not city.coast,
    "river": lambda city: city.river != "none",
    "island": lambda city: city.country in ("Indonesia", "Japan", "Singapore", "Cuba", "Taiwan", "UK"),
    "mountains": lambda city: city.climate == "highland",
    "high altitude": lambda city: city.climate == "highland",
    "hot": lambda city: city.climate in ("tropical", "desert"),
    "warm": lambda city: city.climate in ("tropical", "desert", "subtropical", "mediterranean"),
    "cold": lambda city: city.climate == "continental",
    "snow": lambda city: city.climate == "continental",
    "dry": lambda city: city.climate == "desert",
    "arid": lambda city: city.climate == "desert",
    "rainy": lambda city: city.climate == "tropical",
    "humid": lambda city: city.climate in ("tropical", "subtropical"),
    "historic": lambda city: city.known_for in ("history", "temples", "churches", "museums", "pilgrims"),
    "historical": lambda city: city.known_for in ("history", "temples", "churches", "museums", "pilgrims"),
    "ancient": lambda city: city.known_for in ("history", "temples", "pilgrims"),
    "industrial": lambda city: city.known_for in ("industry", "textiles", "cars", "coal", "mining", "oil"),
    "industry": lambda city: city.known_for in ("industry", "textiles", "cars", "coal", "mining", "oil"),
    "financial": lambda city: city.known_for in ("finance", "trade"),
    "tech": lambda city: city.known_for == "technology",
    "muslim": lambda city: city.religion == "Islam",
    "islamic": lambda city: city.religion == "Islam",
    "christian": lambda city: city.religion == "Christianity",
    "catholic": lambda city: city.language in ("Spanish", "Portuguese", "Italian", "Hungarian"),
    "hindu": lambda city: city.religion == "Hinduism",
    "buddhist": lambda city: city.religion == "Buddhism",
    "mandarin": lambda city: city.language == "Chinese",
    "millions": lambda city: city.population >= 2_000_000,
    "spanish speaking": lambda city: city.language == "Spanish",
    "english speaking": lambda city: city.language == "English",
    "united states": lambda city: city.country == "USA",
    "america": lambda city: city.country == "USA",
    "united kingdom": lambda city: city.country == "UK",
    "england": lambda city: city.country == "UK",
}

# The words that name a topic, and its answer; tried in this order for questions that begin like ``What``.
_TOPICS: tuple[tuple[str, Answer], ...] = (
    ("river rivers", lambda city: "No river." if city.river == "none" else f"There is {city.river}."),
    ("continent", lambda city: f"{city.continent}."),
    ("currency money", lambda city: f"We pay in {city.currency}."),
    ("language languages speak spoken tongue", lambda city: f"We speak {city.language}."),
    ("religion religions faith religious", lambda city: f"Most hold to {city.religion}."),
    ("dish dishes food foods cuisine eat specialty delicacy", lambda city: f"Try the {city.dish}."),
    ("climate weather temperature", lambda city: f"The climate is {city.climate}."),
    (
        "population people inhabitants residents big large",
        lambda city: f"About {max(1, round(city.population / 1e6))} million people.",
    ),
    (
        "landmark landmarks attraction attractions monument sights building tourist",
        lambda city: f"There is {city.landmark}.",
    ),
    (
        "known famous industry industries economy culture cultural",
        lambda city: f"It is known for {city.known_for}.",
    ),
    ("country nation", lambda city: f"{city.country}."),
    ("region located location part where area", lambda city: f"It is in {city.region}."),
)
_PEOPLES = {
    "China": ("chinese city",),
    "India": ("indian",),
    "Brazil": ("brazilian",),
    "Indonesia": ("indonesian city", "java"),
    "Egypt": ("egyptian",),
    "Iran": ("iranian",),
    "Colombia": ("colombian",),
    "Pakistan": ("pakistani",),
    "South Korea": ("korea", "south korean"),
    "Japan": ("japanese city",),
    "Turkey": ("turkish city",),
}


@lru_cache(maxsize=1)
def _phrases() -> tuple[tuple[tuple[str, ...], Truth], ...]:
    """Every phrase with what it asks for, the longest first: those above, and all values of the table."""
    found: dict[tuple[str, ...], Truth] = {}
    for city in load_cities().values():
        for phrase, truth in _values(city).items():
            found.setdefault(words(phrase), truth)
    found |= {words(phrase): truth for phrase, truth in _YES_NO.items()}
    return tuple(sorted(found.items(), key=lambda entry: -len(entry[0])))


def _values(city: City) -> Mapping[str, Truth]:
    """What can be asked for by naming a value: ``Do they speak Thai?``."""

    def same(field: str) -> Truth:
        value = getattr(city, field)
        return lambda other: getattr(other, field) == value

    fields = ("country", "region", "climate", "language", "religion", "landmark", "dish", "known_for", "currency")
    values = {getattr(city, field): same(field) for field in fields}
    if city.river not in ("none", "the river of its own name"):
        values[city.river.removeprefix("the ")] = same("river")
    for people in _PEOPLES.get(city.country, ()):
        values[people] = same("country")
    return values


def prompt(name: str, question: str) -> str:
    """What a language model is asked that plays a resident."""
    return (
        f"You are from {name}. Answer truthfully and shortly, without naming the city.\nquestion: {question}\nanswer:"
    )


def guess_of(question: str) -> str | None:
    """The one city that a question names, None where it names none or several, or says that it is not that one."""
    text = words(question[:LONGEST])
    named = mentioned(text)
    if len(named) != 1 or {"not", "isnt", "near", "close", "far"} & set(text):
        return None
    return named[0]


@lru_cache(maxsize=65_536)
def answer_to(question: str, name: str) -> str:
    """What a resident of the city ``name`` answers; never a text that holds the city's own name."""
    city = load_cities()[name]
    if len(question) > LONGEST:
        return UNKNOWN
    text = words(question)
    named = mentioned(text)
    if named:
        return NO if len(named) == 1 and city.name not in named else SECRET
    if not text or {"not", "isnt"} & set(text):
        return UNKNOWN
    if text[0] in _OPEN and (text[0] not in ("could", "can") or text[1:3] == ("you", "tell")):
        return _fact(text, city)
    if set(text) & _DIRECTIONS and set(text) & {"part", "region", "side", "area", "province", "state"}:
        return UNKNOWN  # of a country: the table does not say
    named_thing = _NAMED.search(question)
    if named_thing:
        river = named_thing[2].lower() == "river" and city.river != "the river of its own name"
        return (YES if words(named_thing[1])[0] in words(city.river) else NO) if river else UNKNOWN
    asked = _asked(text)
    if not asked:
        return _population(text, city)
    true = [truth(city) for truth in asked]
    return YES if (any(true) if "or" in text else all(true)) else NO


def _asked(text: tuple[str, ...]) -> list[Truth]:
    """Everything that a question asks for, where one phrase holds another the longer one."""
    found: list[Truth] = []
    rest = text
    for phrase, truth in _phrases():
        for start in range(len(rest) - len(phrase) + 1):
            if rest[start : start + len(phrase)] == phrase:
                found.append(truth)
                rest = (*rest[:start], "", *rest[start + len(phrase) :])
                break
    return found


def _fact(text: tuple[str, ...], city: City) -> str:
    for keys, answer in _TOPICS:
        if set(keys.split()) & set(text):
            told = answer(city)
            return SECRET if names_city(told, city.name) else told
    return UNKNOWN


def _population(text: tuple[str, ...], city: City) -> str:
    """Whether there are more or fewer people than a number of millions."""
    if "million" in text and (text.index("million") and (number := text[text.index("million") - 1]).isdigit()):
        more = city.population > int(number[:6]) * 1_000_000
        if {"more", "over", "above", "exceed", "least", "greater", "larger"} & set(text):
            return YES if more else NO
        if {"less", "under", "below", "fewer", "smaller"} & set(text):
            return NO if more else YES
    return UNKNOWN
