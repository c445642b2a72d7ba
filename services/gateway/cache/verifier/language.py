"""Distinguishes English texts from others by their words. The verifier knows only English."""

from collections.abc import Callable, Sequence

from services.gateway.cache.verifier.vocabulary import STOP_WORDS

# Frequent words that occur in English and in hardly any other language.
_ENGLISH = frozenset(
    """the what whats how when where wheres why who whos which does did are were my your you it its
    this that these those with and or from can cant should would could will there not have had
    if than get make been being their they them our us his her between without before after
    isnt dont doesnt didnt arent wont im ive id show give tell please""".split()
)
# Frequent words of languages in Latin script that do not occur in English texts.
_OTHERS = (
    frozenset(
        """der das ich wie ist und nicht ein eine einen einem einer mein meine meinen kann mit ohne
    nach für auf zu von bei wo wann warum wer welche wird sind haben hat sich oder im ins zum zur
    à de la le les un une des du est et je tu il elle nous vous mon ma mes mode sans avec pour
    dans sur comment pourquoi quand où qui quel quelle puis peut suis sont ce cette au aux ne pas
    el los las una del y en es yo mi tu su con sin para por como cómo qué cuándo dónde quién cuál
    puedo puede está son hay al lo se
    il lo gli della dello nel di da che non sono è mio mia posso può perché chi quale
    o os um uma do dos das na nos meu minha não em eu posso onde quando qual são
    het een ik hoe zet mijn van niet naar voor met waar wanneer waarom wie zijn kan
    jak nie się jest czy gdzie kiedy dlaczego moje mój się w z do na
    och att är jag hur inte på av mitt ett det den
    ve bir bu mi nasıl ne için ile
    yang dan di ini itu cara untuk dari
    se je ako kako si""".split()
    )
    - _ENGLISH
    - frozenset("do on no an son die war men mode tu mon ma au al ne w z o se je si en es".split())
)
# Smallest shares of known words. Names are unknown words. The second share is for texts with
# frequent English words and no frequent words of another language.
_MIN_KNOWN, _MIN_KNOWN_BESIDE_ENGLISH = 0.6, 0.3


def is_english(words: Sequence[str], is_known: Callable[[str], bool]) -> bool:
    """Return whether the words of a text are certainly English.

    Args:
        words: the words of the text.
        is_known: whether a word occurs in the English questions that the verifier was trained on.
    """
    distinct = {word for word in words if not word.isdigit()}
    if not distinct:
        return bool(words)
    english, others = len(distinct & _ENGLISH), len(distinct & _OTHERS)
    if others > english:
        return False
    known = sum(word in _ENGLISH or word in STOP_WORDS or is_known(word) for word in distinct)
    return known >= (_MIN_KNOWN if others or not english else _MIN_KNOWN_BESIDE_ENGLISH) * len(
        distinct
    )
