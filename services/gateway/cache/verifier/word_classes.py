"""Classes of words that never stand for each other, such as weekdays, colours and units.

A class is written as ``name: member synonym …|member synonym …``.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

_CLASSES = """
weekday: monday mon|tuesday tue tues|wednesday wed|thursday thu thurs|friday fri|saturday sat
    |sunday sun|weekend|weekday
month: january jan|february feb|march mar|april apr|june jun|july jul|august aug
    |september sep sept|october oct|november nov|december dec
season: spring springtime|summer summertime|autumn|winter wintertime
day: yesterday|today|tomorrow|tonight
daytime: morning|afternoon|evening|night|noon midday|midnight
frequency: hourly|daily|weekly|monthly|quarterly|yearly annual annually
colour: red|blue|green|yellow|orange|purple violet|pink|brown|black|white|grey gray|gold golden
    |silver|turquoise|beige
ordinal: first 1st primary|second 2nd secondary|third 3rd|fourth 4th|fifth 5th|sixth 6th
    |seventh 7th|eighth 8th|ninth 9th|tenth 10th|eleventh 11th|twelfth 12th|last final
size: small little tiny|medium|large big huge
garment size: xs|s|m|l|xl|xxl|xxxl
direction: left leftmost|right rightmost|up|down|forward forwards|backward backwards
compass: north northern|south southern|east eastern|west western|northeast northeastern
    |northwest northwestern|southeast southeastern|southwest southwestern
unit: kilometer kilometre km|mile mi|meter metre|foot feet ft|inch inches|yard yd
    |centimeter centimetre cm|millimeter millimetre mm|kilogram kilo kg|gram
    |pound lb gbp sterling £|ounce oz|tonne ton|stone|liter litre|milliliter millilitre ml|gallon
    |pint|quart|cup|tablespoon tbsp|teaspoon tsp|celsius centigrade|fahrenheit|kelvin
    |millisecond ms|seconds sec secs|minute min|hour hr hrs|day|week|month|quarter|year yr|decade
    |century centuries|kilobyte kb|megabyte mb|gigabyte gb|terabyte tb|byte|bit|hertz hz
    |megahertz mhz|gigahertz ghz|watt|kilowatt kw|volt|amp ampere|joule|calorie calories|percent
    |dollar usd $|euro eur €|rupee inr ₹|yen jpy ¥|franc chf|yuan cny renminbi rmb
    |ruble rub rouble|krona kronor sek|peso mxn|krw|brl|bitcoin btc|ethereum eth|acre|hectare
    |radian
magnitude: hundred|thousand k|million|billion|trillion
continent: africa african|asia asian|europe european|antarctica antarctic|australia australian
    |oceania|arctic
planet: mercury|venus|mars martian|jupiter|saturn|uranus|neptune|pluto|earth|moon|sun
country: france french|germany german|spain spanish|italy italian|portugal portuguese
    |netherlands dutch holland|belgium belgian|switzerland swiss|austria austrian|poland polish
    |russia russian|ukraine ukrainian|turkey turkish|greece greek|sweden swedish|norway norwegian
    |denmark danish|finland finnish|ireland irish|scotland scottish|england english|wales welsh
    |britain british uk|hungary hungarian|romania romanian|bulgaria bulgarian|croatia croatian
    |serbia serbian|czechia czech|slovakia slovak|iceland icelandic|usa america american
    |canada canadian|mexico mexican|brazil brazilian|argentina argentinian|chile chilean
    |peru peruvian|colombia colombian|cuba cuban|china chinese|japan japanese|india indian
    |pakistan pakistani|bangladesh|nepal nepali|korea korean|vietnam vietnamese|thailand thai
    |indonesia indonesian|malaysia malaysian|singapore|philippines filipino|iran persian iranian
    |iraq iraqi|israel israeli|syria syrian|saudi|egypt egyptian|nigeria nigerian|kenya kenyan
    |ethiopia ethiopian|ghana ghanaian|morocco moroccan|hebrew|arabic|hindi|latin|urdu|bengali
    |tamil|telugu|mandarin|cantonese|swahili
city: london|paris|berlin|munich|hamburg|frankfurt|madrid|barcelona|rome|milan|venice|lisbon|porto
    |amsterdam|rotterdam|brussels|vienna|zurich|geneva|prague|warsaw|budapest|athens|istanbul
    |moscow|stockholm|oslo|copenhagen|helsinki|dublin|edinburgh|manchester|liverpool|boston
    |chicago|houston|dallas|seattle|miami|denver|atlanta|philadelphia|toronto|vancouver|montreal
    |tokyo|osaka|kyoto|beijing|shanghai|delhi|mumbai|bangalore|chennai|kolkata|hyderabad|pune
    |karachi|lahore|dubai|cairo|nairobi|lagos|sydney|melbourne|brisbane|auckland|bangkok|seoul
    |jakarta|manila
programming language: python|java|javascript js|typescript|ruby|php|perl|rust|golang go|swift
    |kotlin|scala|haskell|c|c++ cpp|c#|fortran|cobol|lua|matlab|julia|erlang|elixir|clojure|bash
    |powershell
file format: pdf|word docx doc|excel xlsx xls|powerpoint pptx ppt|csv|json|xml|yaml yml|html
    |markdown|txt|png|jpg jpeg|gif|webp|svg|bmp|tiff|mp3|mp4|wav|flac|avi|mov|mkv|zip|rar|tar|epub
    |mobi|parquet
operating system: windows|mac macos osx|linux|ubuntu|debian|fedora|centos|redhat|ios iphone
    |android|ipad|chromeos
browser: chrome|firefox|safari|edge|opera
database: mysql|postgres postgresql|sqlite|oracle|mongodb mongo|redis|mariadb|cassandra
    |elasticsearch
framework: react|angular|vue|svelte|django|flask|rails|laravel|pytorch|tensorflow|keras
cloud: aws|azure|gcp
service: whatsapp|telegram|facebook fb|instagram|twitter|snapchat|tiktok|linkedin|youtube|reddit
    |gmail|outlook|yahoo|google|bing|amazon|ebay|netflix|spotify|uber|slack|zoom|skype
payment: cash|card|cheque check|paypal|visa|mastercard|amex|invoice
meal: breakfast|lunch|dinner supper|brunch
drink: tea|coffee|beer|wine|milk|water|juice|vodka|whisky whiskey
transport: car|bus|train|plane airplane|bike bicycle|boat|ferry|taxi|tram|subway metro|motorcycle
family: mother mom mum|father dad|brother|sister|son|daughter|uncle|aunt|grandmother|grandfather
    |husband|wife|boyfriend|girlfriend|nephew|niece
gender: man men male boy guy gentlemen mens|woman women female girl lady ladies womens
animal: dog puppy|cat kitten|horse|cow|pig|sheep|rabbit|hamster|parrot|snake|tiger|lion|elephant
metal: iron|copper|steel|aluminium aluminum|platinum|bronze|zinc
sport: football soccer|basketball|tennis|cricket|hockey|baseball|rugby|golf|volleyball|badminton
subject: mathematics math maths|physics|chemistry|biology|history|geography|economics|philosophy
pronoun: he him his|she her hers
order: before|after since|until till|during
company: with|without
scope: including|except excluding
duty: must|may might
diet: vegan|vegetarian|halal|kosher
room: single|double|twin|triple
"""
_UNITS_AFTER_A_NUMBER = {
    "m": "meter", "g": "gram", "l": "liter", "s": "second", "h": "hour", "c": "celsius",
    "f": "fahrenheit", "k": "thousand", "w": "watt", "v": "volt",
}  # fmt: skip
_ROMAN = frozenset("ii iii iv v vi vii viii ix x xi xii xiii xiv xv".split())
# After these words "I" and single letters are numbers or names.
_NUMBERED = frozenset(
    """act book chapter class episode grade group hepatitis level option page part phase plan rocky
    season section series size stage step type unit version vitamin volume war zone""".split()
)
_NEAR = {
    "this": "this", "next": "next", "coming": "next", "last": "last", "previous": "last",
    "past": "last",
}  # fmt: skip
_PERIODS = frozenset(
    """morning afternoon evening night week weekend month quarter year spring summer autumn winter
    monday tuesday wednesday thursday friday saturday sunday""".split()
)
_FLOORS = frozenset("ground top lower upper bottom basement".split())
# Verbs with opposite meanings before "in" and "out".
_ENTERING = frozenset(
    """log logged logging sign signed signing check checked checking zoom zooming clock opt opted
    breathe fade move moved moving go going come coming get let lock locked""".split()
)
_IN_OR_OUT_OF = frozenset(
    "bounds date fashion office order range service stock use warranty".split()
)
# Words before and after which "may" is the month.
_BEFORE_MAY = frozenset(
    "in since before after until till by of last next early late mid from".split()
)
_PLURAL = re.compile("['’]?s$")
_ORDINAL = re.compile(r"(\d+)(?:st|nd|rd|th)")
_MEASURE = re.compile(r"\d+([a-z]+)")
Member = tuple[str, str]


def _read(text: str) -> dict[str, list[Member]]:
    members: defaultdict[str, list[Member]] = defaultdict(list)
    for line in re.split(r"\n(?=\S)", text.strip()):
        name, _, body = line.partition(":")
        for group in body.split("|"):
            for word in group.split():
                members[word].append((name, group.split()[0]))
    return dict(members)


_MEMBERS = _read(_CLASSES)


def members_of(word: str) -> list[Member]:
    """Return the classes of a word, each with the member that the word names."""
    return _MEMBERS.get(word) or _MEMBERS.get(_PLURAL.sub("", word), [])


def class_members(words: Sequence[str]) -> dict[str, Counter[str]]:
    """Return how often each member of each class occurs in the words of a text."""
    found: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for place, word in enumerate(words):
        before, after = words[place - 1] if place else "", "".join(words[place + 1 : place + 2])
        if word == "with" and after == "no":
            word = "without"  # noqa: PLW2901 - they mean the same
        measure = _MEASURE.fullmatch(word)
        plain = members_of(measure[1] if measure and word not in _MEMBERS else word)
        for name, member in (*plain, *_contextual_members(before, word, after)):
            found[name][member] += 1
    return found


def _contextual_members(before: str, word: str, after: str) -> list[Member]:
    """Return the classes of a word that depend on its form and on the words beside it."""
    ordinal, measure = _ORDINAL.fullmatch(word), _MEASURE.fullmatch(word)
    if ordinal and word not in _MEMBERS:
        return [("ordinal", ordinal[1])]
    if measure or before.isdigit():
        return _measure_members(measure[1] if measure else word)
    near = _NEAR.get(word, "")
    found = (
        ("relative", near, near and after.rstrip("s'’") in _PERIODS),
        ("order", "after", word == "from" and _names_a_time(after)),
        ("floor", word, word in _FLOORS and after in ("floor", "deck", "storey")),
        ("entering", word, word in ("in", "out") and before in _ENTERING),
        ("entering", "in", word == "in" and after in _IN_OR_OUT_OF),
        ("entering", "out", word == "out" and after == "of"),
        ("month", "may", word == "may" and (before in _BEFORE_MAY or after.isdigit())),
        ("label", word, word in _ROMAN or (before in _NUMBERED and len(word) == 1)),
    )
    return [(name, member) for name, member, belongs in found if belongs]


def _names_a_time(word: str) -> bool:
    months = any(name == "month" for name, _ in members_of(word))
    return months or word == "may" or word in _PERIODS


def _measure_members(unit: str) -> list[Member]:
    """Return the classes of the word after a number."""
    if unit in ("am", "pm"):
        return [("half of the day", unit)]
    if unit == "may":
        return [("month", unit)]
    return [("unit", _UNITS_AFTER_A_NUMBER[unit])] if unit in _UNITS_AFTER_A_NUMBER else []


def differing_class(one: Mapping[str, Counter[str]], other: Mapping[str, Counter[str]]) -> str:
    """Return a class of which each text has a member that the other text lacks, or ""."""
    for name in one.keys() & other.keys():
        if one[name] - other[name] and other[name] - one[name]:
            return name
    return ""
