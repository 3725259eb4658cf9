"""Words in PostgreSQL: a column of type tsvector, made here word by word, and what is asked of it.

No configuration of PostgreSQL's own text search plays a part. A word of the caption is a lexeme as it is, with its
places; a stem begins with "~" and has none. Words of a metadata field have the field's number before them, so that one
column and one index serve all texts: "=1=bridge" and "=1=~bridg" are of the first field of type TEXT.
"""

from collections.abc import Sequence

from search_svc.model import Definition, Item
from search_svc.words.texts import TextWords, words_of_item
from search_svc.words.wanting import WantedTerm


def vector_texts(items: Sequence[Item], definition: Definition) -> list[str]:
    """Return the words of items as the column takes them: the text of a tsvector for each."""
    return [vector_text(words_of_item(item, definition)) for item in items]


def vector_text(texts: Sequence[TextWords]) -> str:
    """Return the text of a tsvector with the words of an item's texts."""
    lexemes: list[str] = []
    for number, text in enumerate(texts):
        prefix = _prefix(number)
        for word, places in text.places.items():
            at = str(places[0]) if len(places) == 1 else ",".join(map(str, places))
            lexemes.append(f"'{prefix}{word}':{at}")
        lexemes += [f"'{prefix}{stem}'" for stem in text.stems]
    return " ".join(lexemes)


def _prefix(place: int) -> str:
    return f"={place}=" if place else ""


def _quoted(lexeme: str) -> str:
    # Neither a quotation mark nor a backslash is a part of any word.
    return f"'{lexeme}'"


def words_query(term: WantedTerm, places: Sequence[int]) -> str:
    """Return the text of a tsquery for the words of a term themselves, in any of the texts at these places."""
    end = ":*" if term.is_prefix else ""
    return " | ".join(
        "(" + " <-> ".join(_quoted(_prefix(place) + word) + end for word in term.words) + ")" for place in places
    )


def term_query(term: WantedTerm, places: Sequence[int]) -> str:
    """Return the text of a tsquery for the words of a term, or others of their stem."""
    stems = [_quoted(_prefix(place) + stem) for stem in term.stems for place in places]
    return "(" + " | ".join((words_query(term, places), *stems)) + ")"


def all_query(terms: Sequence[WantedTerm], places: Sequence[int]) -> str:
    """Return the text of a tsquery for all of these terms."""
    return " & ".join(term_query(term, places) for term in terms)
