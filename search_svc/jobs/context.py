"""Things that a worker of a job is given: its parameters, its store, and how it tells how far it is."""

import json
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from search_svc.jobs.model import MAX_MESSAGE_CHARS, Job, JobProgress, Lease
from search_svc.jobs.store import JobStore
from search_svc.model import Collection
from search_svc.store import Store

# The rate is that of about so many seconds.
_RATE_S = 30.0


class JobContext:
    """An attempt at a job.

    A worker saves small steps often: whatever was saved is not done again. It needs no look at whether it is cancelled:
    its task is, within a second or two, and so it is when another replica took the job.
    """

    def __init__(
        self, job: Job, lease: Lease, collection: Collection, store: Store, jobs: JobStore, *, timeout_s: float
    ) -> None:
        self.job = job
        self.lease = lease
        self.collection = collection
        self.store = store
        self.timeout_s = timeout_s
        """For each call of the store, in seconds."""
        self.done = job.progress.done
        self.total = job.progress.total
        self.jobs = jobs
        self.saves = 0
        """Number of times that progress was saved in this attempt."""
        self._checkpoint = job.progress.checkpoint
        self._looks: deque[tuple[float, int]] = deque([(time.monotonic(), self.done)])

    @property
    def checkpoint(self) -> dict[str, Any]:
        """Progress that was saved last, by this or by an earlier attempt; empty before the first time."""
        kept: dict[str, Any] = json.loads(self._checkpoint)
        return kept

    def progress(
        self, done: int, total: int, *, message: str = "", checkpoint: Mapping[str, Any] | None = None
    ) -> JobProgress:
        """Return progress for a write of the store that saves it itself. Call `saved` when that is done.

        Args:
            done: how many units are done.
            total: of how many; 0 where that is not known.
            message: what is done just now, for people.
            checkpoint: what another attempt needs to go on; None leaves it as it is.
        """
        text = self._checkpoint if checkpoint is None else json.dumps(checkpoint)
        return JobProgress(done, max(total, done) if total else 0, self._rate(done), message[:MAX_MESSAGE_CHARS], text)

    def saved(self, progress: JobProgress) -> None:
        """Note progress that the store has saved."""
        self.done, self.total, self._checkpoint = progress.done, progress.total, progress.checkpoint
        self.saves += 1

    async def save(
        self,
        done: int | None = None,
        total: int | None = None,
        *,
        message: str = "",
        checkpoint: Mapping[str, Any] | None = None,
        lasting: bool = True,
    ) -> None:
        """Save progress; None leaves a count as it is. See `progress`, and `JobStore.save` for `lasting`.

        Raises:
            LeaseLost: another replica has the job: end.
        """
        progress = self.progress(
            self.done if done is None else done,
            self.total if total is None else total,
            message=message,
            checkpoint=checkpoint,
        )
        await self.jobs.save(self.lease, progress, lasting=lasting, timeout_s=self.timeout_s)
        self.saved(progress)

    async def say(self, message: str) -> None:
        """Tell people what the job does or waits for just now. Raises LeaseLost."""
        progress = JobProgress(self.done, self.total, 0.0, message[:MAX_MESSAGE_CHARS], self._checkpoint)
        await self.jobs.save(self.lease, progress, lasting=False, timeout_s=self.timeout_s)

    def _rate(self, done: int) -> float:
        now = time.monotonic()
        while len(self._looks) > 1 and now - self._looks[1][0] > _RATE_S:
            self._looks.popleft()
        begun, before = self._looks[0]
        self._looks.append((now, done))
        return max(0.0, (done - before) / (now - begun)) if now > begun else 0.0
