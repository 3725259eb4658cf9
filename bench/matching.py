"""Recall, false accepts and speed of MatchImages, beside OpenCV's local features with its FLANN matcher.

    python -m bench.matching                                   10,000 entries, 200 queries an alteration
    python -m bench.matching --sizes 500 --queries 20          does it still run?
    python -m bench.matching --keep FOLDER                     what is drawn and stored stays for another run

Entries are drawn scenes and pieces of photographs with a sensor's grain. A query is an altered copy of an entry, and a
stranger an altered copy of an image of the same kind that is none. All systems read the same JPEG files. Each gives an
answer a number, of which it takes what lies above that of all but one stranger in a thousand. Times are of one query
after another, decoding included; lensmesh's are those of a client of a mesh on this machine. A system that is slow is
asked fewer queries and strangers, as many as `--most-seconds` allows for each; the tables tell how many.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
from PIL import Image

from bench.match.alterations import NAMES, alter
from bench.match.answers import Answer, Matcher, Query
from bench.match.entries import MOST_STRANGERS, Subject, make_subject
from bench.match.mesh import NAME, MeshMatcher
from bench.match.opencv import EachEntry, Features, OneIndex, Points, points_of
from bench.match.tables import CANDIDATES, Asked, candidates_table, recall_table, speed_table
from lensmesh_cli.console import SafeConsole
from lensmesh_cli.progress import Bar
from lensmesh_client import Client
from lensmesh_local.supervisor import MeshOptions, Supervisor

# Queries an alteration that are timed at sizes below the largest. To ask entry by entry takes a minute at the largest:
# so many queries in all.
TIMED, TIMED_EACH = 10, 3

Times = dict[str, dict[int, Sequence[Answer]]]


def say(text: str) -> None:
    """Print at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    """Show how far it is. Yield what counts one more."""
    with Bar(SafeConsole(stderr=True), what, total) as bar:
        yield lambda: bar.step(ok=True)


def altered(paths: Sequence[Path], count: int, *, known: bool) -> list[Query]:
    """Alter the first images in each of the ways."""
    chosen = paths[:count]
    with progress("alter", len(chosen) * len(NAMES)) as step:
        queries = []
        # The alterations take turns: who is asked some of them is asked of all kinds.
        for number, path in enumerate(chosen):
            with Image.open(path) as image:
                for name in NAMES:
                    queries.append(Query(alter(image, name, number), name, number if known else None))
                    step()
    return queries


def some_of(queries: Sequence[Query], each: int) -> list[Query]:
    """Return some of each alteration."""
    return [one for name in NAMES for one in [query for query in queries if query.alteration == name][:each]]


def ask(matcher: Matcher, queries: Sequence[Query], most_s: float) -> list[Answer]:
    """Match one image after another, as long as `most_s` allows, and one of each alteration at least."""
    with progress(matcher.name, len(queries)) as step:
        began = time.perf_counter()
        answers: list[Answer] = []
        for query in queries:
            if len(answers) >= len(NAMES) and time.perf_counter() - began > most_s:
                break
            answers.append(matcher.match(query.content))
            step()
    return answers


def measure_opencv(
    subject: Subject,
    sizes: Sequence[int],
    queries: Sequence[Query],
    strangers: Sequence[Query],
    kind: str,
    times: Times,
    most_s: float,
) -> Asked:
    """Measure both of OpenCV's ways with one kind of features. Return the answers of one index at the largest size."""
    features = Features(kind)
    with progress(f"{kind} of entries", len(subject.entries)) as step:
        points: list[Points] = points_of(subject.entries, features, step)
    for size in sizes:
        largest = size == sizes[-1]
        index = OneIndex(features, points[:size])
        answers = ask(index, queries if largest else some_of(queries, TIMED), most_s)
        times.setdefault(index.name, {})[size] = answers
        if largest:
            asked = Asked(index.name, queries[: len(answers)], answers, ask(index, strangers, most_s))
        del index
        each = EachEntry(features, points[:size])
        some = queries[:: max(1, len(queries) // TIMED_EACH)][:TIMED_EACH]
        times.setdefault(each.name, {})[size] = ask(each, some, most_s)
    return asked


async def measure_mesh(
    subject: Subject,
    sizes: Sequence[int],
    queries: Sequence[Query],
    strangers: Sequence[Query],
    folder: Path,
    times: Times,
) -> tuple[Asked, list[list[int]]]:
    """Measure MatchImages. Return its answers at the largest size, and what the vectors alone find."""
    options = MeshOptions(folder / "data", port=0, model="shapes", caption_model="mock", http=False)
    async with (
        Supervisor(options, lambda _: None) as mesh,
        Client(mesh.router, security=mesh.security, timeout_s=300) as client,
    ):
        matcher = MeshMatcher(client, subject.entries)
        for begin, size in zip([0, *sizes], sizes, strict=False):
            with progress("ingest", size - begin) as step:
                await matcher.fill(begin, size, step)
            chosen = queries if size == sizes[-1] else some_of(queries, TIMED)
            await matcher.ask(chosen[:TIMED], lambda: None)
            with progress(NAME, len(chosen)) as step:
                answers = await matcher.ask(chosen, step)
            times.setdefault(NAME, {})[size] = answers
        with progress(f"{NAME}, strangers", len(strangers)) as step:
            unknown = await matcher.ask_many(strangers, step)
        return Asked(NAME, queries, answers, unknown), await matcher.nearest(queries, max(CANDIDATES))


def measure(options: argparse.Namespace, folder: Path) -> None:
    """Measure all systems, and print the tables."""
    sizes = sorted(options.sizes)
    with progress("draw", sizes[-1] + options.strangers) as step:
        subject = make_subject(folder / "images", sizes[-1], options.strangers, step)
    queries = altered(subject.entries[: sizes[0]], options.queries, known=True)
    strangers = altered(subject.strangers, options.strangers, known=False)
    cv2.setNumThreads(options.threads)
    times: Times = {}
    asked, nearest = [], None
    if not options.without_mesh:
        of_mesh, nearest = asyncio.run(measure_mesh(subject, sizes, queries, strangers, folder, times))
        asked.append(of_mesh)
    for kind in options.baselines:
        asked.append(measure_opencv(subject, sizes, queries, strangers, kind, times, options.most_seconds))
    say(f"{sizes[-1]:,} entries, {subject.photographs} of them pieces of photographs\n")
    say(recall_table(asked, subject.photographs) + "\n")
    if nearest is not None:
        say(candidates_table(queries, nearest) + "\n")
    say(speed_table(times, next(iter(times))))


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 3_000, 10_000], help="counts of entries")
    parser.add_argument("--queries", type=int, default=200, help="entries that are asked for, in each alteration")
    parser.add_argument("--strangers", type=int, default=200, help=f"images that are none, {MOST_STRANGERS} at most")
    parser.add_argument("--baselines", nargs="*", choices=("SIFT", "ORB"), default=["SIFT", "ORB"])
    parser.add_argument("--without-mesh", action="store_true", help="OpenCV's ways alone")
    parser.add_argument(
        "--most-seconds", type=float, default=300, help="for the queries of a system, and its strangers"
    )
    parser.add_argument("--threads", type=int, default=2, help="threads of OpenCV")
    parser.add_argument("--keep", type=Path, help="a folder for what is drawn and stored")
    options = parser.parse_args()
    if options.keep is not None:
        measure(options, options.keep)
    else:
        with tempfile.TemporaryDirectory(prefix="lensmesh-matching-") as name:
            measure(options, Path(name))


if __name__ == "__main__":
    main()
