"""Text as it is searched: without diacritics, case or punctuation that a reader would not type.

``Nguyễn^Văn Ân`` is found by "nguyen an", and so is ``Đặng`` by "dang".
"""

import unicodedata

# Letters whose stroke is no combining mark, so that normalisation leaves it on.
_STROKES = str.maketrans({"đ": "d", "ð": "d", "ø": "o", "ł": "l", "ħ": "h", "ı": "i"})
_SEPARATORS = str.maketrans(dict.fromkeys("^=\\,;", " "))
ESCAPE = "\\"
_MOST_WORDS = 12


def fold(text: str) -> str:
    """Return a text in lower case without diacritics and without control characters."""
    plain = unicodedata.normalize("NFKD", text.translate(_SEPARATORS)).casefold()
    kept = (c for c in plain if not unicodedata.combining(c) and (c.isprintable() or c.isspace()))
    return "".join(kept).translate(_STROKES)


def searchable(*texts: str) -> str:
    """Return the words of some texts as they are stored: each after a space, none twice.

    A word that holds punctuation (``Nguyen-Van``, ``2026/17``) stands there whole and in its parts.
    """
    words: dict[str, None] = {}
    for word in fold(" ".join(texts)).split():
        words[word] = None
        words.update(dict.fromkeys(_parts(word)))
    return "".join(f" {word}" for word in words)


def patterns(text: str) -> list[str]:
    """Return a LIKE pattern for each word of a search: stored words must begin with it.

    Quotes, ``%`` and ``_`` stand for themselves; the patterns need ``ESCAPE``.
    """
    return [f"% {_literal(word)}%" for word in fold(text).split()[:_MOST_WORDS]]


def _parts(word: str) -> list[str]:
    return "".join(c if c.isalnum() else " " for c in word).split()


def _literal(word: str) -> str:
    for sign in (ESCAPE, "%", "_"):
        word = word.replace(sign, ESCAPE + sign)
    return word
