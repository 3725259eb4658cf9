"""Short texts, one at a time and sixteen together, against open_clip's encode_text in the same numbers."""

from __future__ import annotations

from bench.cases.images import of
from bench.measure import Case
from bench.stage import Stage

SIZES = (1, 16)


async def texts(stage: Stage, backends: list[str], precision: str) -> list[Case]:
    """Make the cases of one Encoder for each backend."""
    plain = await stage.open_clip(precision)
    cases = [
        of(plain, f"open_clip-text-{size}", f"open_clip encode_text, {precision}, {size}", "texts", batch=size)
        for size in SIZES
    ]
    for backend in backends:
        encoder = await stage.encoder(f"encoder-{backend}", PRECISION=precision, BACKEND=backend)
        caller = await stage.caller(encoder)
        cases += [
            of(
                caller,
                f"{backend}-text-{size}",
                f"EncodeTexts of {size}, {backend}, {precision}",
                "closed",
                items="texts",
                batch=size,
                concurrency=1,
            )
            for size in SIZES
        ]
    return cases
