"""Limits of what the router accepts: its own, and those of what lies behind it where it cannot cut."""

from collections.abc import Iterable, Sequence

from lensmesh.common.v1 import common_pb2
from router_svc.settings import RouterSettings
from router_svc.upstreams.kinds import Kind
from router_svc.upstreams.monitor import ReplicaMonitor
from router_svc.upstreams.replica import Replica

_TIGHTEST = (
    "max_message_bytes",
    "max_items",
    "max_image_bytes",
    "max_image_pixels",
    "max_image_side_ratio",
    "max_text_chars",
    "max_metadata_bytes",
    "max_metadata_depth",
    "max_filter_values",
    "max_page_size",
    "max_hits",
    "max_offset",
    "max_caption_tokens",
    "max_labels",
)


def tightest(limits: Sequence[common_pb2.Limits]) -> common_pb2.Limits:
    """Return what all of `limits` accept.

    A 0 does not apply and so does not count; a scheme counts if every service that takes images accepts it.
    """
    joined = common_pb2.Limits()
    for name in _TIGHTEST:
        told = [value for value in (getattr(one, name) for one in limits) if value]
        if told:
            setattr(joined, name, min(told))
    takes_images = [set(one.uri_schemes) for one in limits if one.max_image_bytes]
    joined.uri_schemes.extend(sorted(set.intersection(*takes_images)) if takes_images else [])
    return joined


class JoinedLimits:
    """Limits as callers of the router see them."""

    def __init__(self, settings: RouterSettings, monitor: ReplicaMonitor) -> None:
        self._settings = settings
        self._monitor = monitor

    def of(self, kind: Kind) -> common_pb2.Limits:
        """Return those of one service's contract passed on.

        The router cuts batches of the model services, so the items are its own; what search does in one transaction is
        never cut.
        """
        told = list(_told(self._monitor.replicas(kind)))
        own = common_pb2.Limits(max_message_bytes=self._settings.max_message_bytes)
        joined = tightest([own, *told])
        if kind is not Kind.SEARCH:
            joined.max_items = self._settings.max_items
            joined.max_message_bytes = own.max_message_bytes
        return joined

    def of_all(self, replicas: Sequence[Replica]) -> common_pb2.Limits:
        """Return those of RouterService, given every replica behind it."""
        own = common_pb2.Limits(
            max_message_bytes=self._settings.max_message_bytes, max_image_bytes=self._settings.max_image_bytes
        )
        told = list(_told(replicas))
        joined = tightest([*told, own])
        joined.max_items = self._settings.max_items
        # Images to ingest and to search by are fetched here, and go on as bytes.
        joined.uri_schemes[:] = self._settings.fetch_policy(self._settings.max_image_bytes).schemes
        return joined


def _told(replicas: Iterable[Replica]) -> Iterable[common_pb2.Limits]:
    return (replica.info.limits for replica in replicas if replica.info)
