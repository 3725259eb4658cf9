"""Beam search over a batch of images, by the rules of transformers' `generate`.

The best beam is the one with the highest mean log-probability of a token. A search is over when as many beams are
finished as there are beams, and no running beam can beat the worst of these. An image leaves the batch when its search
is over, or when nobody waits for it any more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from caption_svc.models.decoder import Decoder, take_out
from caption_svc.models.generated import Generated


@dataclass(frozen=True)
class _Beam:
    """The tokens so far, each one's log-probability given those before it, and the sum of these."""

    tokens: tuple[int, ...] = ()
    logs: tuple[float, ...] = ()
    total: float = 0.0


@dataclass
class _Search:
    """The search for one image's caption. `finished` holds means and beams, the best first."""

    image: int
    running: list[_Beam] = field(default_factory=lambda: [_Beam()])
    finished: list[tuple[float, _Beam]] = field(default_factory=list)

    @property
    def best(self) -> _Beam:
        return self.finished[0][1] if self.finished else self.running[0]

    def go_on(
        self, candidates: Sequence[tuple[int, _Beam]], beams: int, end_id: int, *, last: bool
    ) -> Sequence[tuple[int, _Beam]]:
        """Sort this step's candidates into finished and running beams; return those that the next step goes on from.

        `candidates` are sorted, the best first. Each stands beside the number of the beam that it continues, as in what
        is returned. Nothing is returned where the search is over.
        """
        steps = len(candidates[0][1].tokens)
        for _, beam in candidates[:beams]:
            if last or beam.tokens[-1] == end_id:
                self.finished.append((beam.total / steps, beam))
        self.finished = sorted(self.finished, key=lambda one: one[0], reverse=True)[:beams]
        going = [] if last else [one for one in candidates if one[1].tokens[-1] != end_id][:beams]
        self.running = [beam for _, beam in going]
        if going and len(self.finished) == beams and going[0][1].total / steps <= self.finished[-1][0]:
            return []
        return going


def search_beams(
    decoder: Decoder,
    image_states: torch.Tensor,
    start_ids: Sequence[int],
    end_id: int,
    max_tokens: int,
    beams: int,
    abandoned: Callable[[int], bool],
) -> list[Generated]:
    """Return the best of `beams` hypotheses for each image, at most `max_tokens` tokens long.

    The other arguments are those of `decode_greedily`. `abandoned` takes an image's place in the first batch, and tells
    whether nobody waits for it any more.
    """
    everybody = [_Search(image) for image in range(len(image_states))]
    searches = list(everybody)
    reading = decoder.read(image_states, length=len(start_ids) + max_tokens - 1, beams=beams)
    ids = [list(start_ids) for _ in searches]
    for step in range(1, max_tokens + 1):
        scores = decoder.step(reading, torch.tensor(ids, device=image_states.device))
        candidates = _candidates(scores, searches, 2 * beams)
        parents: list[int] = []
        chosen: list[list[int]] = []
        for place, (search, of_image) in enumerate(zip(searches, candidates, strict=True)):
            going = search.go_on(of_image, beams, end_id, last=step == max_tokens)
            if abandoned(search.image):
                going = []
            first = place * (len(scores) // len(searches))
            parents += [first + parent for parent, _ in going] or [first] * beams
            chosen.append([beam.tokens[-1] for _, beam in going])
        if not any(chosen):
            break
        reading.follow(parents)
        for place in reversed(range(len(searches))):
            if not chosen[place]:
                reading.leave_out(place)
                take_out(searches, place)
                take_out(chosen, place)
        ids = [[token] for tokens in chosen for token in tokens]
    return [_generated(search.best, end_id) for search in everybody]


def _candidates(scores: torch.Tensor, searches: Sequence[_Search], count: int) -> list[list[tuple[int, _Beam]]]:
    """Return for each image the `count` best continuations of its running beams, each with the beam's number."""
    vocabulary = scores.shape[-1]
    logs = scores.log_softmax(-1).view(len(searches), -1, vocabulary)
    before = torch.tensor([[beam.total for beam in search.running] for search in searches], device=scores.device)
    totals, places = (logs + before[..., None]).flatten(1).topk(count)
    added = logs.flatten(1).gather(1, places)
    answer = []
    for search, *rows in zip(searches, totals.tolist(), places.tolist(), added.tolist(), strict=True):
        of_image = []
        for total, at, log in zip(*rows, strict=True):
            parent = search.running[at // vocabulary]
            beam = _Beam((*parent.tokens, at % vocabulary), (*parent.logs, log), total)
            of_image.append((at // vocabulary, beam))
        answer.append(of_image)
    return answer


def _generated(beam: _Beam, end_id: int) -> Generated:
    answer = Generated()
    for token, chance in zip(beam.tokens, torch.tensor(beam.logs).exp().tolist(), strict=True):
        answer.add(token, chance, end_id)
    return answer
