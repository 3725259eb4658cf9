"""Mutants of images: bytes flipped, cut, inserted, swapped and spliced, the same ones for the same seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping

# Numbers that length fields and counters stumble over.
_EDGES = (b"\x00", b"\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", b"\x80\x00\x00\x00", b"\x00\x00", b"\xff\xff")


def mutants(seeds: Mapping[str, bytes], count: int, seed: int = 10) -> Iterator[tuple[str, bytes]]:
    """Yield `count` mutants (name, bytes), from every seed in turn. No two have the same bytes."""
    chance = random.Random(seed)
    names, seen = list(seeds), set[bytes]()
    while len(seen) < count:
        name = names[len(seen) % len(names)]
        mutation = chance.choice(list(MUTATIONS))
        content = MUTATIONS[mutation](seeds[name], seeds[chance.choice(names)], chance)
        if content and content not in seen and content != seeds[name]:
            seen.add(content)
            yield f"{len(seen)}: {name}, {mutation}", content


def _flip(content: bytes, other: bytes, chance: random.Random) -> bytes:
    changed = bytearray(content)
    # The head decides most, and is a small part of the file.
    reach = len(changed) if chance.random() < 0.5 else min(len(changed), 200)
    for _ in range(chance.choice((1, 1, 2, 8, 40))):
        changed[chance.randrange(reach)] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _cut(content: bytes, other: bytes, chance: random.Random) -> bytes:
    begin = chance.randrange(len(content))
    return content[:begin] if chance.random() < 0.5 else content[:begin] + content[begin + chance.randrange(1, 400) :]


def _insert(content: bytes, other: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(content))
    more = chance.choice((chance.randbytes(chance.randrange(1, 64)), chance.choice(_EDGES) * chance.randrange(1, 9)))
    return content[:at] + more + content[at:]


def _overwrite(content: bytes, other: bytes, chance: random.Random) -> bytes:
    more = chance.choice(_EDGES)
    at = chance.randrange(min(len(content), 400))
    return content[:at] + more + content[at + len(more) :]


def _swap(content: bytes, other: bytes, chance: random.Random) -> bytes:
    size = chance.randrange(1, max(2, len(content) // 4))
    first = chance.randrange(max(1, len(content) - 2 * size))
    second = chance.randrange(first + size, max(first + size + 1, len(content) - size + 1))
    return (
        content[:first]
        + content[second : second + size]
        + content[first + size : second]
        + content[first : first + size]
        + content[second + size :]
    )


def _splice(content: bytes, other: bytes, chance: random.Random) -> bytes:
    return content[: chance.randrange(1, len(content))] + other[chance.randrange(len(other)) :]


MUTATIONS: Mapping[str, Callable[[bytes, bytes, random.Random], bytes]] = {
    "flipped": _flip,
    "cut": _cut,
    "inserted": _insert,
    "overwritten": _overwrite,
    "swapped": _swap,
    "spliced": _splice,
}
