"""A fault that nobody foresaw, thrown for one item of a write, names that item: the others can be sent without it."""

from typing import Any

import pytest

from lensmesh_chassis.errors import InternalFault, InvalidInput
from lensmesh_chassis.reasons import Reason
from search_svc.metadata import MetadataLimits
from search_svc.model import Definition, Hnsw, NamedSpace, StoredAs, VectorSpace
from search_svc.wire import items
from tests.search.support import SPACE_ID, item

SPACE = NamedSpace("image", VectorSpace(SPACE_ID, "", "", 4, True, ()), StoredAs.FLOAT16, Hnsw())
DEFINITION = Definition("pictures", (SPACE,), ())


@pytest.mark.parametrize("fault", [RuntimeError, ValueError, UnicodeError])
@pytest.mark.parametrize("step", ["struct_to_json", "read_vector", "_check_text"])
def test_a_fault_names_its_item(fault: type[Exception], step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real, seen = getattr(items, step), 0

    def odd(*arguments: Any, **named: Any) -> Any:
        nonlocal seen
        seen += 1
        if seen == 2:
            raise fault("secret")
        return real(*arguments, **named)

    def read(*ids: str) -> Any:
        nonlocal seen
        seen = 0
        messages = [item(one, [0, 3, 0, 4], {"a": 1}) for one in ids]
        return items.read_items(messages, DEFINITION, limits=MetadataLimits(1000, 10), max_text_chars=100)

    assert len(read("a", "b", "c")) == 3
    monkeypatch.setattr(items, step, odd)
    with pytest.raises(InternalFault) as broken:
        read("a", "b", "c")
    assert broken.value.reason is Reason.INTERNAL
    assert [violation.field for violation in broken.value.violations] == ["items[1]"]
    assert "secret" not in broken.value.message
    # What the caller can mend is said first.
    with pytest.raises(InvalidInput):
        read("a", "b", "a")
