"""English words that decide whether two questions ask the same."""

NEGATIONS = frozenset(
    """no not never none nobody nothing neither nor without cannot cant wont dont doesnt didnt isnt
    arent wasnt werent havent hasnt hadnt wouldnt shouldnt couldnt mustnt aint""".split()
)
NUMERALS = {
    word: str(value)
    for value, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve".split()
    )
}
QUESTION_WORDS = tuple("what why how when where who which whose can should is do".split())
AUXILIARIES = {
    word: kind
    for kind, words in {
        "is": "is are was were am isnt arent",
        "do": "do does did dont doesnt didnt",
        "can": "can could cant couldnt",
        "should": "should would will shall must may might",
        "who": "who whom",
    }.items()
    for word in words.split()
}
UNITS = frozenset(
    """km kilometers kilometres miles mile m meters metres feet foot inches inch cm mm kg kilograms
    g grams lb lbs pounds ounces oz liters litres l gallons c celsius f fahrenheit kelvin seconds
    minutes hours days weeks months years usd dollars eur euros inr rupees gbp yen percent mb gb tb
    kb hz mhz ghz watts volts amps""".split()
)
STOP_WORDS = frozenset(
    """a an the is are was were be been being am do does did done have has had having of in on at to
    for from by with about as into than then that this these those it its i you he she we they me my
    your his her our their them us him and or if but so what why how when where who whom which whose
    can could should would will shall must may might there here some any s t re ve ll d m""".split()
) - {"on", "from", "to", "by"}
ANTONYMS = {
    frozenset(pair.split())
    for pair in """on off|enable disable|open close|start stop|begin end|first last|before after
    |first second|second third|first third|second last
    |up down|increase decrease|raise lower|high low|more less|most least|best worst|good bad
    |buy sell|import export|add remove|install uninstall|login logout|lock unlock|true false
    |win lose|allow deny|accept reject|hot cold|old new|male female|man woman|men women|boy girl
    |input output|maximum minimum|max min|cheap expensive|gain lose|advantage disadvantage
    |advantages disadvantages|pros cons|inside outside|legal illegal|possible impossible
    |positive negative|left right|north south|east west|day night|send receive|lend borrow
    |push pull|show hide|deposit withdraw|upload download|activate deactivate|boys girls|full empty
    |husband wife|girlfriend boyfriend|mother father|male female|love hate|happy sad|rich poor
    |strong weak|fast slow|long short|big small|large small|easy difficult|easy hard|black white
    |front back|top bottom|higher lower|better worse|hire fire|grow shrink|widen narrow|alive dead
    |connect disconnect|subscribe unsubscribe|follow unfollow|block unblock|like dislike|above below
    |over under|early late|earlier later|public private|win loss|profit loss|debit credit|dry wet
    |introvert extrovert|introverts extroverts|entry exit|enter leave|arrive depart|pass fail
    |freeze unfreeze|mute unmute|pin unpin|zip unzip|encrypt decrypt|encode decode|attach detach
    |expand collapse|approve decline|approve reject|join leave|inner outer|internal external
    |major minor|thick thin|heavy light|light dark|young old|inhale exhale|create delete
    |create destroy|build destroy|mount unmount|load unload|sync async|odd even|vertical horizontal
    |gain lose|gaining losing|summer winter|sunrise sunset|teach learn|question answer
    |employer employee|supply demand|asset liability|assets liabilities|permanent temporary
    |voluntary involuntary|safe dangerous|safe unsafe|healthy unhealthy|natural artificial
    |liberal conservative|liberals conservatives|left-wing right-wing|theist atheist|north south
    |optimist pessimist|prove disprove|agree disagree|appear disappear|obey disobey|trust distrust
    |include exclude|including excluding|inclusive exclusive|ascending descending|forward backward
    |forwards backwards|clockwise anticlockwise|import export|importing exporting|buying selling
    |opening closing|turning stopping|always never|everybody nobody|everyone nobody|all none
    |sitting standing|asleep awake|indoors outdoors|indoor outdoor|remember forget|save spend
    |minimize maximize|minimise maximise|upgrade downgrade|succeed fail|success failure""".split(
        "|"
    )
}
