"""Parts that ingest works with, and how long it waits for each of them."""

from concurrent.futures import Executor
from dataclasses import dataclass

from lensmesh_chassis.images.fetching import Fetcher
from router_svc.call_scope import CallScope, Patience
from router_svc.collection_cache import CollectionCache
from router_svc.media.media import Media
from router_svc.model_directory import ModelDirectory
from router_svc.settings import RouterSettings
from router_svc.upstreams.kinds import Kind
from router_svc.upstreams.models import Captioners, Encoders
from router_svc.upstreams.pool import UpstreamPool

STRANGER_WAIT_S = 5.0


@dataclass(frozen=True, slots=True)
class Dependencies:
    """The services behind the router, as ingest uses them."""

    settings: RouterSettings
    encoders: Encoders
    captioners: Captioners
    stores: UpstreamPool
    directory: ModelDirectory
    collection_cache: CollectionCache
    hashing: Executor
    """For digests of large images."""
    fetcher: Fetcher
    """For images given by address."""
    media: Media
    """For the images themselves."""


@dataclass(frozen=True, slots=True)
class IngestScopes:
    """A call's or stream's scope for the work of each kind of service: how long one item waits for it."""

    encoder: CallScope
    captioner: CallScope
    store: CallScope

    @classmethod
    def of_a_stream(cls, scope: CallScope, settings: RouterSettings, directory: ModelDirectory) -> "IngestScopes":
        """Make those of a stream: overload is a wait, and a service that went away has time to come back."""
        most = settings.wait_seconds
        captioner_s = settings.caption_wait_seconds
        if not directory.comes_back(Kind.CAPTIONER):
            # A target where nobody has ever been must not hold up everything for long.
            captioner_s = min(captioner_s, STRANGER_WAIT_S)
        patient = scope.waiting(Patience(away_s=most, busy_s=most))
        return cls(patient, scope.waiting(Patience(away_s=captioner_s, busy_s=most)), patient)

    @classmethod
    def of_a_call(cls, scope: CallScope) -> "IngestScopes":
        """Make those of a single call, which is refused at once, with the time to come back."""
        return cls(scope, scope, scope)
