"""Traces as Jaeger's query API tells them, and what holds for every one of them."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.support.meshes import PATIENCE_S

POLL_S = 0.5
ARRIVAL_S = 90.0


@dataclass(frozen=True)
class Span:
    """One span."""

    id: str
    trace_id: str
    name: str
    service: str
    parent: str
    """"" for the first of a trace."""
    links: frozenset[tuple[str, str]]
    """Trace and span ids."""
    attributes: dict[str, Any]
    events: tuple[dict[str, Any], ...]
    start_us: int
    end_us: int

    @property
    def kind(self) -> str:
        """client, server or internal; statement, of one that the database got."""
        if "db.system" in self.attributes:
            return "statement"
        return str(self.attributes.get("span.kind", "internal"))

    @property
    def method(self) -> str:
        """The method alone; "" of what is no call."""
        return str(self.attributes.get("rpc.method", ""))

    @property
    def code(self) -> str:
        """How a call ended."""
        return str(self.attributes.get("rpc.response.status_code", ""))

    @property
    def failed(self) -> bool:
        """Whether it says that it failed."""
        return self.attributes.get("otel.status_code") == "ERROR"

    @property
    def why(self) -> str:
        """What it says of that."""
        return str(self.attributes.get("otel.status_description", ""))

    @property
    def exceptions(self) -> list[str]:
        """Reasons, or types, of the errors that it keeps."""
        kept = [event for event in self.events if event.get("event") == "exception"]
        return [str(event.get("lensmesh.reason") or event["exception.type"]) for event in kept]


@dataclass
class Trace:
    """A whole trace."""

    spans: dict[str, Span] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Span]:
        return iter(self.spans.values())

    @property
    def root(self) -> Span:
        """The one that all others are below."""
        [root] = [span for span in self if not span.parent]
        return root

    def below(self, parent: Span, *, name: str = "", method: str = "", kind: str = "") -> list[Span]:
        """Children in the order of their begin, of that name, method and kind where one is given."""
        children = [span for span in self if span.parent == parent.id and name in ("", span.name)]
        children = [span for span in children if method in ("", span.method) and kind in ("", span.kind)]
        return sorted(children, key=lambda span: span.start_us)

    def only(self, parent: Span, **which: str) -> Span:
        """The one child that there must be."""
        [child] = self.below(parent, **which)
        return child

    def served(self, call: Span) -> Span:
        """The server's side of a call."""
        return self.only(call, kind="server")

    def all(self, *, name: str = "", method: str = "", service: str = "", kind: str = "") -> list[Span]:
        """All of that name, method, service and kind."""
        return [
            span
            for span in self
            if name in ("", span.name)
            and method in ("", span.method)
            and service in ("", span.service)
            and kind in ("", span.kind)
        ]

    def linked(self, span: Span) -> list[Span]:
        """What it is linked to, all of it in this trace."""
        return [self.spans[span_id] for _, span_id in span.links]


@dataclass(frozen=True)
class Jaeger:
    """A Jaeger, asked by its query API."""

    address: str

    def trace(self, trace_id: str, complete: Callable[[Trace], bool]) -> Trace:
        """As soon as it is complete, and grows no more: spans arrive from several processes, each in its own time."""
        end = time.monotonic() + ARRIVAL_S
        before = 0
        while True:
            trace = self.now(trace_id)
            if complete(trace) and len(trace.spans) == before:
                return trace
            before = len(trace.spans)
            names = Counter(f"{span.service} {span.name}" for span in trace)
            assert time.monotonic() < end, f"trace {trace_id} never became complete: {names}"
            time.sleep(POLL_S)

    def find(self, service: str, operation: str, **tags: str) -> str:
        """Id of the only trace with such a span; waits until there is one."""
        query = {"service": f"lensmesh-{service}", "operation": operation, "limit": "100", "lookback": "6h"}
        if tags:
            query["tags"] = json.dumps({f"lensmesh.{name}": value for name, value in tags.items()})
        end = time.monotonic() + ARRIVAL_S
        while True:
            address = f"{self.address}/api/traces?{urllib.parse.urlencode(query)}"
            with urllib.request.urlopen(address, timeout=PATIENCE_S) as answer:
                found = json.load(answer)["data"] or []
            if found:
                [one] = found
                return str(one["traceID"])
            assert time.monotonic() < end, f"no trace with {query}"
            time.sleep(POLL_S)

    def now(self, trace_id: str) -> Trace:
        """What is known of a trace now."""
        try:
            with urllib.request.urlopen(f"{self.address}/api/traces/{trace_id}", timeout=PATIENCE_S) as answer:
                content = json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return Trace()
            raise
        return read(content)

    def resource(self, trace_id: str, service: str) -> dict[str, Any]:
        """Resource attributes of a service that took part."""
        with urllib.request.urlopen(f"{self.address}/api/traces/{trace_id}", timeout=PATIENCE_S) as answer:
            processes = json.load(answer)["data"][0]["processes"].values()
        return next(_tags(process["tags"]) for process in processes if process["serviceName"] == service)


def read(content: Any) -> Trace:
    """A trace out of the query API's JSON."""
    trace = Trace()
    for one in content["data"]:
        for raw in one["spans"]:
            references = [(ref["refType"], ref["traceID"], ref["spanID"]) for ref in raw["references"]]
            parents = [span_id for kind, _, span_id in references if kind == "CHILD_OF"]
            trace.spans[raw["spanID"]] = Span(
                id=raw["spanID"],
                trace_id=raw["traceID"],
                name=raw["operationName"],
                service=one["processes"][raw["processID"]]["serviceName"].removeprefix("lensmesh-"),
                parent=parents[0] if parents else "",
                links=frozenset((in_trace, span_id) for kind, in_trace, span_id in references if kind != "CHILD_OF"),
                attributes=_tags(raw["tags"]),
                events=tuple(_tags(log["fields"]) for log in raw["logs"]),
                start_us=raw["startTime"],
                end_us=raw["startTime"] + raw["duration"],
            )
    return trace


def _tags(raw: list[dict[str, Any]]) -> dict[str, Any]:
    return {tag["key"]: tag["value"] for tag in raw}


# Which spans stand below which: kind of span -> kinds of its parent.
_BELOW = {
    "operation": {"", "operation"},
    "client": {"operation", "server"},
    "server": {"client", ""},
    "item": {"server"},
    "lookup": {"item", "server"},
    "encode": {"item", "server"},
    "caption": {"item", "server"},
    "write": {"item", "server"},
    "decode": {"item", "server"},
    "tokenize": {"item"},
    "queue": {"item", "server"},
    "forward": {"item", "server"},
    "batch": {"server", "batch"},
    "store": {"server"},
    "statement": {"server", "store"},
}


def sort(span: Span | None) -> str:
    """What kind of span it is, of those that this system makes."""
    if span is None:
        return ""
    if span.method or span.kind == "statement":
        return span.kind
    first = span.name.split()[0]
    return "operation" if first == "lensmesh" else first


def assert_well_made(trace: Trace) -> None:
    """What holds for every trace: one root, no orphan, every span below the right kind of span, calls in pairs, links
    both ways, and every error told once.
    """
    assert [span.name for span in trace if span.parent and span.parent not in trace.spans] == []
    assert len([span for span in trace if not span.parent]) == 1
    for span in trace:
        parent = trace.spans.get(span.parent)
        assert sort(span) in _BELOW, span.name
        assert sort(parent) in _BELOW[sort(span)], f"{span.name} below {parent and parent.name}"
        if sort(span) == "server" and parent is not None:
            assert (parent.name, parent.service != span.service) == (span.name, True)
        elif parent is not None:
            assert parent.service == span.service
    assert_links_go_both_ways(trace)
    assert_batches_and_items_agree(trace)


def assert_links_go_both_ways(trace: Trace) -> None:
    """Calls and items know of one another, and batches and items."""
    for span in trace:
        for linked in trace.linked(span):
            # A step of an item's way names the batch, which names the item.
            back = trace.spans[span.parent] if sort(span) == "forward" else span
            assert (back.trace_id, back.id) in linked.links, f"{span.name} -> {linked.name}"


def assert_batches_and_items_agree(trace: Trace) -> None:
    """A batch is linked to as many items as it says, and each item that the device worked on rode in one."""
    for batch in trace.all(name="batch"):
        items = trace.linked(batch)
        assert len(items) == batch.attributes["lensmesh.batch.size"]
        assert {item.service for item in items} == {batch.service}
    for forward in trace.all(name="forward"):
        [batch] = trace.linked(forward)
        assert batch.name == "batch"
        assert batch.end_us <= forward.end_us + 1000
