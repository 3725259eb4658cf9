"""The state of a batcher as numbers: what waits, what runs, what is predicted. Any thread may read them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from lensmesh_inference.batching.admission import Admission
from lensmesh_inference.batching.devices import DeviceWorker
from lensmesh_inference.batching.lanes import Lane, LaneQueue
from lensmesh_inference.batching.running import Running


class BatcherGauges:
    """The numbers of one batcher, for metrics, health and the watchdog."""

    def __init__(
        self,
        name: str,
        devices: Sequence[DeviceWorker[Any, Any]],
        admission: Admission,
        limits: tuple[int, int],
        clock: Callable[[], float],
    ) -> None:
        self._name = name
        self._devices = devices
        self._admission = admission
        self._lanes: Mapping[Lane, LaneQueue[Any, Any]] = admission.lanes
        self._limits = limits
        self._clock = clock

    @property
    def name(self) -> str:
        """The name of the model."""
        return self._name

    def batches_of(self, device: int) -> int:
        """Return the number of batches that one device has been given so far."""
        return self._devices[device].batches

    @property
    def queued_items(self) -> int:
        """Items that wait for any device, in both lanes."""
        return sum(lane.queued_items for lane in self._lanes.values())

    @property
    def held_items(self) -> int:
        """Items queued, in a device or promised room, in both lanes."""
        return sum(lane.held_items for lane in self._lanes.values())

    def queued_in(self, lane: Lane) -> int:
        """Return the number of items of one lane that wait for a device."""
        return self._lanes[lane].queued_items

    @property
    def held_bytes(self) -> int:
        """Bytes of `held_items`, as their submitters gave them."""
        return sum(lane.held_bytes for lane in self._lanes.values())

    def lane_depths(self) -> Iterator[tuple[str, int, int, int]]:
        """Yield for each lane: its name, items held, those of them queued, bytes held."""
        for lane, queue in self._lanes.items():
            yield lane.name.lower(), queue.held_items, queue.queued_items, queue.held_bytes

    def limits(self) -> tuple[int, int]:
        """Return the items and bytes that each lane may hold."""
        return self._limits

    def wait_s(self, lane: Lane) -> float:
        """Return the seconds until a device would begin with an item that came now, predicted from recent batches."""
        return self._admission.wait_s(lane)

    @property
    def expected_wait_s(self) -> float:
        """The predicted wait (`wait_s`) of bulk items, which wait for everything."""
        return self.wait_s(Lane.BULK)

    @property
    def running_s(self) -> float:
        """The seconds that the oldest batch in a device has run; 0 when all devices are idle."""
        now = self._clock()
        return max((device.running_s(now) for device in self._devices), default=0.0)

    def running(self) -> Sequence[Running]:
        """Return what is in the devices now."""
        return [batch for device in self._devices if (batch := device.running()) is not None]

    @property
    def working(self) -> list[int]:
        """The numbers of the devices that are left."""
        return [device.number for device in self._devices if not device.lost]

    @property
    def devices(self) -> int:
        """The number of devices that are left."""
        return len(self.working)

    @property
    def lost(self) -> bool:
        """True where no device is left."""
        return all(device.lost for device in self._devices)

    @property
    def batch_limit(self) -> int:
        """The items that the smallest device left takes in one batch now; 0 where no device is left."""
        return min((device.limit for device in self._devices if not device.lost), default=0)
