"""What ingest works with, and how long it waits for each part of it."""

from concurrent.futures import Executor
from dataclasses import dataclass

from lensmesh_chassis.fetching import Fetcher
from router_svc.catalog import Catalog
from router_svc.directory import Directory
from router_svc.peers.fleet import Patience
from router_svc.peers.models import Captioners, Encoders
from router_svc.peers.stores import Stores
from router_svc.settings import RouterSettings


@dataclass(frozen=True, slots=True)
class Mesh:
    """The services behind the router, as ingest uses them."""

    settings: RouterSettings
    encoders: Encoders
    captioners: Captioners
    stores: Stores
    directory: Directory
    catalog: Catalog
    hashing: Executor
    """For digests of large pictures."""
    fetcher: Fetcher
    """For pictures given by address."""


@dataclass(frozen=True, slots=True)
class Waits:
    """How long one item waits for each kind of service."""

    encoder: Patience
    captioner: Patience
    store: Patience

    @classmethod
    def of_a_stream(cls, settings: RouterSettings) -> "Waits":
        """Overload is a wait, and a service that went away has time to come back."""
        most = settings.wait_seconds
        patience = Patience(away_s=most, busy_s=most)
        return cls(patience, Patience(away_s=settings.caption_wait_seconds, busy_s=most), patience)

    @classmethod
    def of_a_call(cls) -> "Waits":
        """A single call is refused at once, with the time to come back."""
        return cls(Patience(), Patience(), Patience())
