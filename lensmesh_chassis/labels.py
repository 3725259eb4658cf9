"""Labels and templates of zero-shot classification, held to the contract's limits before any work is done on them."""

from collections.abc import Sequence, Sized
from dataclasses import dataclass
from typing import Final

from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.limits import check_items, check_no_nul
from lensmesh_chassis.reasons import Reason

MAX_LABELS: Final = 10_000
MAX_TEMPLATES: Final = 100
# Labels times templates: each is a text that the model reads.
MAX_LABEL_TEXTS: Final = 100_000
MAX_TEMPLATE_CHARS: Final = 1_000
DEFAULT_TEMPLATE: Final = "a photo of {}"
PLACE: Final = "{}"


@dataclass(frozen=True, slots=True)
class LabelSet:
    """Labels, and the sentences around each of them; `PLACE` stands for the label."""

    labels: tuple[str, ...]
    templates: tuple[str, ...]

    def texts_of(self, index: int) -> list[str]:
        """Return the texts of one label, a text for each template."""
        label = self.labels[index]
        return [template.replace(PLACE, label) for template in self.templates]


def field_of_items(images: Sized, embeddings: Sized) -> str:
    """Return the name of the one list that a request classifies. Raises OPTION_INVALID where both have something."""
    if images and embeddings:
        raise InvalidInput(
            Reason.OPTION_INVALID, "images and embeddings are both set: classify them in two calls", field="embeddings"
        )
    return "embeddings" if embeddings else "images"


def read_labels(
    labels: Sequence[str], templates: Sequence[str], template: str = "", *, max_text_chars: int, path: str = ""
) -> LabelSet:
    """Check labels and templates, and return them; without templates, with the contract's default.

    `path` is the dotted path of the message that holds them ("options.tags"). Raises ``InvalidInput``, naming the field
    and the place: NO_ITEMS, TOO_MANY_ITEMS, TEXT_EMPTY, TEXT_TOO_LONG, TEXT_INVALID for one with a NUL character, and
    OPTION_INVALID for two labels that are alike and for a template without its one `PLACE`.
    """
    prefix = f"{path}." if path else ""
    check_items(len(labels), MAX_LABELS, f"{prefix}labels")
    # Thousands of good ones are looked at together.
    if (
        max(map(len, labels)) > max_text_chars
        or not all(map(str.strip, labels))
        or any("\x00" in each for each in labels)
    ):
        for index, label in enumerate(labels):
            _check_text(label, max_text_chars, f"{prefix}labels[{index}]")
    _check_distinct(labels, f"{prefix}labels")
    chosen = _read_templates(templates, template, prefix)
    if len(labels) * len(chosen) > MAX_LABEL_TEXTS:
        raise InvalidInput(
            Reason.TOO_MANY_ITEMS,
            f"{prefix}labels has {len(labels)} labels and {len(chosen)} templates each, and the limit is "
            f"{MAX_LABEL_TEXTS} texts: use fewer templates, or split the labels",
            field=f"{prefix}labels",
            metadata={"count": len(labels) * len(chosen), "limit": MAX_LABEL_TEXTS},
        )
    return LabelSet(tuple(labels), chosen)


def check_choice(count: int, *, softmax: bool, field: str = "labels") -> None:
    """Refuse one label alone where a softmax would always give it 1. Raises OPTION_INVALID."""
    if softmax and count < 2:
        raise InvalidInput(
            Reason.OPTION_INVALID,
            f"{field} has one label, and this model shares 1 among the labels of a request: send at least two, such as "
            "what it is and what else it could be",
            field=field,
            metadata={"count": count, "limit": 2},
        )


def check_answer_size(labels: Sequence[str], items: int, top: int, max_message_bytes: int) -> None:
    """Refuse a request whose answer would exceed `max_message_bytes`. Raises RESPONSE_TOO_LARGE, with what would fit.

    `items` is how many images are scored; `top` 0 means all labels, as probabilities alone.
    """
    # What a result holds beside its labels: timings, tags and lengths.
    each, room = 4 * len(labels) + 128, max_message_bytes // max(1, items)
    if not labels or (not top and each <= room):
        # Without labels there is nothing to answer: whoever reads them refuses that.
        return
    # A character has at most four bytes in UTF-8: most answers are far from any limit.
    if top and 128 + min(top, len(labels)) * (4 * max(map(len, labels)) + 24) <= room:
        return
    # Of the labels themselves the longest are counted, whichever will be the best.
    longest = sorted((len(label.encode()) + 24 for label in labels), reverse=True)
    taken, fits = 128, 0
    for size in longest:
        taken += size
        if taken > room:
            break
        fits += 1
    if top and min(top, len(labels)) <= fits:
        return
    fix = f"top {fits} would fit" if fits else "not even top 1 would fit: send fewer images in one call"
    raise InvalidInput(
        Reason.RESPONSE_TOO_LARGE,
        f"the answer would exceed {max_message_bytes} bytes: {fix}",
        field="top",
        metadata={"fits": fits, "limit_bytes": max_message_bytes},
    )


def _read_templates(templates: Sequence[str], template: str, prefix: str) -> tuple[str, ...]:
    if template and templates:
        raise InvalidInput(
            Reason.OPTION_INVALID,
            f"{prefix}template and {prefix}templates are both set: put all sentences into templates",
            field=f"{prefix}template",
        )
    if template:
        _check_template(template, f"{prefix}template")
        return (template,)
    if len(templates) > MAX_TEMPLATES:
        check_items(len(templates), MAX_TEMPLATES, f"{prefix}templates")
    for index, one in enumerate(templates):
        _check_template(one, f"{prefix}templates[{index}]")
    _check_distinct(templates, f"{prefix}templates")
    return tuple(templates) or (DEFAULT_TEMPLATE,)


def _check_template(template: str, field: str) -> None:
    _check_text(template, MAX_TEMPLATE_CHARS, field)
    count = template.count(PLACE)
    if count != 1:
        raise InvalidInput(
            Reason.OPTION_INVALID,
            f'{field} has "{PLACE}" {count} times: write it once, where the label goes',
            field=field,
            metadata={"count": count},
        )


def _check_text(text: str, limit: int, field: str) -> None:
    if not text.strip():
        raise InvalidInput(Reason.TEXT_EMPTY, f"{field} is empty: send at least one word.", field=field)
    if len(text) > limit:
        raise InvalidInput(
            Reason.TEXT_TOO_LONG,
            f"{field} has {len(text)} characters, the limit is {limit}: shorten it.",
            field=field,
            metadata={"chars": len(text), "limit": limit},
        )
    check_no_nul(text, field)


def _check_distinct(texts: Sequence[str], field: str) -> None:
    if len(set(texts)) == len(texts):
        return
    places: dict[str, int] = {}
    for index, text in enumerate(texts):
        first = places.setdefault(text, index)
        if first != index:
            raise InvalidInput(
                Reason.OPTION_INVALID,
                f"{field}[{index}] is the same as {field}[{first}]: send each once",
                field=f"{field}[{index}]",
                metadata={"first": first, "second": index},
            )
