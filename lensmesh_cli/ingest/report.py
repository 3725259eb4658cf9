"""The report of an ingest, in words and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lensmesh_cli.console import Exit, note, out
from lensmesh_cli.ingest.metadata import Metadata
from lensmesh_cli.ingest.run import Counts
from lensmesh_cli.printable import printable
from lensmesh_cli.reading import UnreadableFile
from lensmesh_cli.sources import Walk, names, say_passed_over

SHOWN = 10


@dataclass(frozen=True, slots=True)
class Report:
    """The report at the end of an ingest. `again` is the command that sends what failed or lacks a caption."""

    counts: Counts
    walk: Walk
    about: Metadata
    again: str

    @property
    def code(self) -> Exit:
        """The exit code of the command."""
        if self.counts.failures:
            return Exit.FAILED
        return Exit.INCOMPLETE if self.counts.captionless else Exit.DONE

    def as_json(self) -> dict[str, Any]:
        """Return the report for programs. `uri` is exact where a path holds bytes that are not UTF-8."""
        counts = self.counts
        return {
            "stored": counts.stored,
            "outcomes": dict(counts.outcomes),
            "changes": dict(counts.changes),
            "skipped": counts.skipped,
            "failed": len(counts.failures),
            "without_caption": counts.captionless,
            "near_duplicates": {"stored": counts.near_duplicates, "skipped": counts.left_out},
            "one_colour": counts.low_content,
            "fully_transparent": counts.transparent,
            "copies": len(counts.copies),
            "passed_over": {suffix or "no suffix": count for suffix, count in self.walk.passed.items()},
            "left_out": dict(self.walk.left_out),
            "links_not_followed": [str(path) for path in self.walk.links],
            "metadata_without_image": self.about.unused,
            "seconds": round(counts.seconds, 3),
            "images_per_second": round(self._rate, 2),
            "errors": [
                {"path": str(one.path), "uri": _uri(one.path), "reason": one.reason, "message": one.message}
                for one in counts.failures
            ],
        }

    def say(self) -> None:
        """Print the report for people: what was stored on standard output, all else on standard error."""
        counts = self.counts
        outcomes = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.outcomes.items()))
        out.print(
            f"{counts.stored} images in {counts.seconds:.1f} s, {self._rate:.1f} images/s"
            + (f" ({outcomes})" if outcomes else ""),
            highlight=False,
        )
        if counts.changes:
            changed = ", ".join(f"{what} of {count}" for what, count in counts.changes.most_common())
            note(f"changed of those updated: {changed}")
        if counts.skipped:
            note(f"{counts.skipped} were stored by a run before, and still are; --fresh sends them again")
        if counts.lost:
            note(f"{counts.lost} were stored by a run before, and were gone: they are sent again")
        if counts.copies:
            note(
                f"{len(counts.copies)} hold the same image as another file ({names(counts.copies)}): one item for "
                "both, with the path of the file that was sent last, and the metadata of all"
            )
        if counts.left_out:
            note(f"{counts.left_out} look the same as stored items and were left out")
        if counts.near_duplicates:
            note(f"{counts.near_duplicates} look the same as other stored items")
        if counts.low_content:
            note(f"{counts.low_content} are of one colour: every search finds them; -f '$low_content=false' drops them")
        if counts.transparent:
            note(f"{counts.transparent} are transparent all over: a page shows nothing of them")
        self._say_sources()
        say_failures(counts.failures)
        if counts.captionless:
            why = "; ".join(f"{message} ({count})" for message, count in counts.caption_errors.most_common(3))
            note(
                f"{counts.captionless} of {counts.stored + counts.skipped} have no caption"
                + (f": {why}" if why else "")
                + f"\nthis sends exactly those: {self.again}\nand this filter finds them: '$caption!=*'"
            )

    @property
    def _rate(self) -> float:
        return self.counts.stored / self.counts.seconds if self.counts.seconds else 0.0

    def _say_sources(self) -> None:
        walk = self.walk
        if not walk.images and not walk.problems:
            note("no images there")
        say_passed_over(walk, "--follow enters them")
        if self.about.repeated:
            note(f"several metadata lines of one path, the last counts: {names(self.about.repeated)}")
        if unused := self.about.unused:
            note(f"lines of {self.about.source} that fit no image: {len(unused)} ({names(unused)})")


def say_failures(failures: Sequence[UnreadableFile]) -> None:
    """Say which files failed, those of one cause together."""
    alike: dict[tuple[str, str], list[UnreadableFile]] = {}
    for one in failures:
        alike.setdefault((one.reason, one.message), []).append(one)
    for (reason, message), several in sorted(alike.items(), key=lambda item: -len(item[1]))[:SHOWN]:
        note(f"failed: {names([one.path for one in several])}: {printable(message)} ({reason})")
    if len(alike) > SHOWN:
        rest = sum(len(several) for several in alike.values()) - sum(
            len(several) for several in sorted(alike.values(), key=len)[-SHOWN:]
        )
        note(f"... and {rest} more; --json lists all")


def _uri(path: Path) -> str:
    return path.absolute().as_uri()
