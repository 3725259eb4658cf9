"""Example in place of your application: it asks the Encoder in the same pod which of some words are alike."""

import asyncio
import os
import sys

from lensmesh_client import Client

WORDS = ["a red circle", "a circle that is red", "three blue stars"]


async def main() -> None:
    """Ask for the most alike words, print them, wait, and begin again."""
    async with Client(os.environ["LENSMESH_TARGET"]) as mesh:
        while True:
            vectors = (await mesh.embed(texts=WORDS)).vectors
            likeness = vectors @ vectors[0]
            sys.stdout.write(", ".join(f"{word}: {x:.2f}" for word, x in zip(WORDS, likeness, strict=True)) + "\n")
            sys.stdout.flush()
            await asyncio.sleep(60)


if __name__ == "__main__":
    asyncio.run(main())
