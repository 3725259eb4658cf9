"""Frames on a terminal, scrolled by keys and ended by q."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing

from rich.console import Console
from rich.live import Live
from rich.segment import Segment, Segments
from rich.style import Style

from lensmesh_cli.top.figures import MeshFigures
from lensmesh_cli.top.view import frame

# What terminals send for a key -> lines to move; the whole window for the page keys.
STEPS = {"j": 1, "\x1b[B": 1, "\x1bOB": 1, "k": -1, "\x1b[A": -1, "\x1bOA": -1}
PAGES = {" ": 1, "\x1b[6~": 1, "b": -1, "\x1b[5~": -1}
ENDS = {"g": -(10**6), "\x1b[H": -(10**6), "G": 10**6, "\x1b[F": 10**6}
QUIT = {"q", "Q"}


class ScrollWindow:
    """The lines of the last frame, and the part of them that is visible."""

    def __init__(self, console: Console, interval_s: float) -> None:
        self._console = console
        self._interval_s = interval_s
        self._figures: MeshFigures | None = None
        self.top = 0
        self.reads_keys = True
        """True where somebody reads them."""

    def show(self, figures: MeshFigures) -> None:
        """Take the next frame. The scroll position stays."""
        self._figures = figures

    def press(self, key: str) -> bool:
        """Scroll by a key that scrolls. Tell whether it was one."""
        page = max(self._console.height - 2, 1)
        move = STEPS.get(key, 0) or PAGES.get(key, 0) * page or ENDS.get(key, 0)
        self.top = max(self.top + move, 0)
        return move != 0

    def lines(self) -> Segments:
        """Return what is visible: the frame from `top` on, and one line that names the keys."""
        width, room = self._console.width, max(self._console.height - 1, 1)
        assert self._figures is not None
        content = frame(self._figures, self._interval_s, width)
        options = self._console.options.update(width=width, height=None)
        lines = self._console.render_lines(content, options, pad=False)
        self.top = min(self.top, max(len(lines) - room, 0))
        seen = lines[self.top : self.top + room]
        place = f"{self.top + 1}-{self.top + len(seen)} of {len(lines)}"
        known = "q quits, j k arrows scroll" if self.reads_keys else "Ctrl-C quits"
        footer = f"{known}, lines {place}"[:width]
        found = [segment for line in seen for segment in [*line, Segment.line()]]
        return Segments([*found, Segment(footer, Style(dim=True))])


@contextlib.contextmanager
def keys(loop: asyncio.AbstractEventLoop, pressed: asyncio.Queue[str]) -> Iterator[bool]:
    """Put each pressed key into the queue. Tell whether keys are read: not on Windows, and not from a pipe."""
    try:
        import os
        import termios
        import tty
    except ImportError:
        yield False
        return
    if not sys.stdin.isatty():
        yield False
        return
    number = sys.stdin.fileno()
    before = termios.tcgetattr(number)

    def read() -> None:
        for key in split_keys(os.read(number, 1024).decode(errors="replace")):
            pressed.put_nowait(key)

    tty.setcbreak(number)
    loop.add_reader(number, read)
    try:
        yield True
    finally:
        loop.remove_reader(number)
        termios.tcsetattr(number, termios.TCSADRAIN, before)


def split_keys(typed: str) -> list[str]:
    """Split what a terminal sent into keys: each is a letter, or a sequence that begins with ESC."""
    found = []
    while typed:
        size = 1
        if typed.startswith(("\x1b[", "\x1bO")):
            size = next(
                (at + 1 for at, letter in enumerate(typed[2:], 2) if letter.isalpha() or letter == "~"), len(typed)
            )
        found.append(typed[:size])
        typed = typed[size:]
    return found


async def show(figures: AsyncGenerator[MeshFigures, None], interval_s: float, console: Console) -> None:
    """Show frames until q is pressed."""
    pressed: asyncio.Queue[str] = asyncio.Queue()
    window = ScrollWindow(console, interval_s)
    async with aclosing(figures):
        window.show(await anext(figures))
        with (
            keys(asyncio.get_running_loop(), pressed) as window.reads_keys,
            Live(window.lines(), console=console, screen=True, auto_refresh=False, vertical_overflow="crop") as screen,
        ):
            following, key = asyncio.ensure_future(anext(figures)), asyncio.ensure_future(pressed.get())
            try:
                while True:
                    screen.update(window.lines(), refresh=True)
                    await asyncio.wait({following, key}, return_when=asyncio.FIRST_COMPLETED)
                    if following.done():
                        window.show(following.result())
                        following = asyncio.ensure_future(anext(figures))
                    if key.done():
                        if key.result() in QUIT:
                            return
                        window.press(key.result())
                        key = asyncio.ensure_future(pressed.get())
            finally:
                for task in (following, key):
                    task.cancel()
                await asyncio.gather(following, key, return_exceptions=True)
