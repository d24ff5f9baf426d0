"""Invented names for one document: persons, places, organisations and the rest, built out of syllables.

Nothing is known here of sentences, tags in files or word pieces.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

# Parts of names that tell what is named; these alone may stand in names of more than one split.
GENERIC = frozenset(
    "of the for and van & in to FC City United Rovers Athletic Port New Upper Saint Bay Falls Lake North South "
    "River Valley Hills Islands Coast Ltd Inc Works Bank Group Motors Airlines Foods Steel Energy Holdings "
    "Brothers Press University Ministry Transport Finance Trade Health Central Museum Institute Council Party "
    "Labour Green Liberal Union Tribune Times Herald Gazette Daily Open Cup Grand Prix Festival Trophy Marathon "
    "Games Winter World The A Night Song Letters from Return Orchard Bridge Mirror Summer Lamp Garden Tower "
    "Stranger Clock Forest Music Academy".split()
)
# What a slot of the grammar takes from another one's name.
_SHORT_OF = {"last": "per", "first": "per", "short": "company", "nat": "country"}

_ONSETS = "b br d dr f g gl gr h j k kl l m n p pl pr r s sk st t tr th v w y z".split()
_VOWELS = "a e i o u a e i o a e i o ai ea ou".split()
_MIDDLES = "d g k l m n r t v z ll rr nd lm rb rk st sk nn rd lt".split()
_CODAS = "l n r m d k s t v rk lm st nd".split()
_TOWNS = "burg ham ovo ton by mouth haven field stad ford grad minster".split()
_COUNTRIES = (("ia", "ian"), ("land", "lander"), ("stan", "stani"), ("onia", "onian"), ("mark", "markish"))
_REGIONS = "shire ony ardy more wald".split()
_SURNAMES = "sen ov ek ini er man escu idis wick strom aine ossi enko ley".split()
_FIRST_NAMES = "a o in el ine ard is ette as ika ew".split()
_BRANDS = "co ex tron ix ol san tek mar um".split()
_TITLES = "Orchard Bridge Mirror Summer Lamp Garden Tower Stranger Clock Forest".split()

_T = TypeVar("_T")


class Dice:
    """Random choices out of `random()` alone, the one method whose numbers Python keeps across versions.

    Args:
        seed: the same seed gives the same choices.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def chance(self, probability: float) -> bool:
        """True with that probability."""
        return self._random.random() < probability

    def between(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return low + int(self._random.random() * (high - low + 1))

    def one(self, items: Sequence[_T]) -> _T:
        """One of the items."""
        return items[self.between(0, len(items) - 1)]

    def shuffled(self, items: Sequence[_T]) -> list[_T]:
        """The items in another order."""
        order = sorted((self._random.random(), number) for number in range(len(items)))
        return [items[number] for _, number in order]


class Name(NamedTuple):
    """A name of one type; `short` is what a later mention may use (a surname, a brand, a nationality)."""

    type: str
    text: str
    short: str = ""


class Names:
    """The names of one document, made when first needed and then mentioned again.

    Args:
        dice: where chance comes from.
        used: lower-case words that no new name may be; new ones are added.
    """

    def __init__(self, dice: Dice, *, used: set[str]) -> None:
        self._dice = dice
        self._used = used
        self._known: dict[str, list[Name]] = defaultdict(list)
        self._makers: dict[str, Callable[[], Name]] = {
            "per": self._person,
            "town": self._town,
            "country": self._country,
            "region": self._region,
            "river": self._river,
            "club": self._club,
            "company": self._company,
            "agency": self._agency,
            "office": self._office,
            "school": self._school,
            "party": self._party,
            "paper": self._paper,
            "event": self._event,
            "work": self._work,
        }

    def mention(self, slot: str, *, taken: set[str]) -> tuple[str, list[str]]:
        """The type and the words of a name: one of the document's, or a new one.

        Args:
            slot: a slot of the grammar.
            taken: names that the sentence mentions already; this one is added.
        """
        source = _SHORT_OF.get(slot, slot)
        name = self._any(source, taken)
        taken.add(name.text)
        if slot == "first":
            return "PER", name.text.split()[:1]
        if slot == "nat":
            return "MISC", name.short.split()
        return name.type, (name.text if slot == source else name.short).split()

    def _any(self, source: str, taken: Sequence[str] | set[str] = ()) -> Name:
        known = [name for name in self._known[source] if name.text not in taken]
        if known and self._dice.chance(0.5):
            return self._dice.one(known)
        name = self._makers[source]()
        self._known[source].append(name)
        return name

    def _word(self, endings: Sequence[str], *, middles: int = 0) -> str:
        """A word used nowhere else: an onset, some middles, then one of the endings."""
        while True:
            ending = self._dice.one(endings)
            word = self._dice.one(_ONSETS) + self._dice.one(_VOWELS)
            for _ in range(middles):
                word += self._dice.one(_MIDDLES) + self._dice.one(_VOWELS)
            word += self._dice.one(_CODAS if ending[0] not in "aeiou" else "dklnrt") + ending
            if word not in self._used:
                self._used.add(word)
                return word.capitalize()

    def _middles(self) -> int:
        return int(self._dice.chance(0.3))

    def _person(self) -> Name:
        towns = [name.short for name in self._known["town"]]
        if towns and self._dice.chance(0.08):
            last = self._dice.one(towns)
        else:
            last = self._word(_TOWNS if self._dice.chance(0.04) else _SURNAMES, middles=self._middles())
        if self._dice.chance(0.06):
            last += "-" + self._word(_SURNAMES)
        if self._dice.chance(0.05):
            last = f"van {last}"
        first = self._word(_FIRST_NAMES, middles=self._middles())
        initial = self._dice.one(" ABEJKLM")
        if self._dice.chance(0.8):
            return Name("PER", f"{first} {last}", last)
        return Name("PER", f"{first} {initial}. {last}" if initial != " " else f"{first[0]}. {last}", last)

    def _town(self) -> Name:
        town = self._word(_TOWNS, middles=self._middles())
        if self._dice.chance(0.8):
            return Name("LOC", town, town)
        shape = self._dice.one(["Port {}", "New {}", "Upper {}", "Saint {}", "{} Bay", "{} Falls"])
        return Name("LOC", shape.format(town), town)

    def _country(self) -> Name:
        end, people = self._dice.one(_COUNTRIES)
        country = self._word([end], middles=self._middles())
        short = country.removesuffix(end) + people
        if self._dice.chance(0.1):
            side = self._dice.one(["North", "South"])
            return Name("LOC", f"{side} {country}", f"{side} {short}")
        return Name("LOC", country, short)

    def _region(self) -> Name:
        shape = self._dice.one(["{}", "{}", "North {}", "South {}", "{} Valley", "{} Hills", "{} Islands", "{} Coast"])
        return Name("LOC", shape.format(self._word(_REGIONS)))

    def _river(self) -> Name:
        return Name("LOC", self._dice.one(["{}", "River {}", "Lake {}"]).format(self._word(["a", "e", "ine"])))

    def _club(self) -> Name:
        town = self._any("town").short
        return Name("ORG", self._dice.one(["{}"] * 5 + ["{} City", "{} United", "{} Rovers", "FC {}"]).format(town))

    def _company(self) -> Name:
        brand = self._word(_BRANDS, middles=self._middles())
        kind = self._dice.one("Ltd Inc Works Bank Group Motors Airlines Foods Steel Energy Holdings Press".split())
        if self._dice.chance(0.1):
            brand = f"{brand} & {self._word(_SURNAMES)}"
        elif self._dice.chance(0.15):
            return Name("ORG", f"{self._word(_SURNAMES)} Brothers", brand)
        return Name("ORG", brand if self._dice.chance(0.25) else f"{brand} {kind}", brand)

    def _agency(self) -> Name:
        while (letters := "".join(self._dice.one("ABCDEFGIKLMNOPRSTUW") for _ in range(4))).lower() in self._used:
            pass
        self._used.add(letters.lower())
        return Name("ORG", letters)

    def _office(self) -> Name:
        shape, source = self._dice.one(
            [
                ("University of {}", "town"),
                ("{} University", "town"),
                ("{} Museum", "town"),
                ("{} City Council", "town"),
                ("Bank of {}", "country"),
                ("Central Bank of {}", "country"),
                ("{} Ministry of Transport", "country"),
                ("Finance Ministry of {}", "country"),
                ("{} Health Institute", "river"),
            ]
        )
        return Name("ORG", shape.format(self._any(source).text))

    def _school(self) -> Name:
        shape = self._dice.one(["University of {}", "{} University", "{} Music Academy"])
        return Name("ORG", shape.format(self._any("town").text))

    def _party(self) -> Name:
        shape = self._dice.one(["{} Labour Party", "{} Liberal Union", "Green Party of {}", "{} Party"])
        return Name("ORG", shape.format(self._any("country").text))

    def _paper(self) -> Name:
        shape = self._dice.one(["{} Tribune", "{} Times", "{} Herald", "Daily {}", "{} Gazette"])
        return Name("ORG", shape.format(self._word(_TOWNS)))

    def _event(self) -> Name:
        shape = self._dice.one(
            ["{} Open", "{} Cup", "{} Grand Prix", "{} Festival", "{} Trophy", "{} Marathon", "{} Winter Games"]
        )
        return Name("MISC", shape.format(self._dice.one([self._any("town").text, self._word(_BRANDS + _REGIONS)])))

    def _work(self) -> Name:
        shape = self._dice.one(["The {1} of {0}", "A Song for {0}", "{0} and the {1}", "Return to {0}", "The {0} {1}"])
        return Name("MISC", shape.format(self._word([*_TOWNS, *_FIRST_NAMES]), self._dice.one(_TITLES)))
