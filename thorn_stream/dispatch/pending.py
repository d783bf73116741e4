"""Since when each subscriber's oldest event is pending: looked up when it is asked for."""

from collections.abc import Iterable, Iterator, Mapping

from thorn_stream.core.deliveries import Delivery
from thorn_stream.dispatch.worker import Worker
from thorn_stream.ports import Transport

__all__ = ["oldest_pending"]


def oldest_pending(worker: Worker, transport: Transport, now: int) -> Mapping[str, float]:
    """Seconds until `now` (unix milliseconds), by subscriber; those with nothing are left out.

    Counted from when the event was written. Of what waits in tiers only that counts which is held
    here, of an ordered subscriber only what it has read: what is behind is younger.
    """
    found: dict[str, int] = {}
    for name, moment in _moments(worker, transport):
        found[name] = min(moment, found.get(name, moment))
    oldest_first = sorted(found.items(), key=lambda item: item[1])
    return {name: max(0, now - moment) / 1000 for name, moment in oldest_first}


def _moments(worker: Worker, transport: Transport) -> Iterator[tuple[str, int]]:
    yield from _written(attempt.delivery for attempt in transport.under_way())
    for lane in worker.dispatcher.lanes.queued:
        for queue in lane.queues():
            yield from _written(queue)
    yield from worker.waiting.oldest.items()
    if worker.parked is not None:
        for name, (moment, _) in worker.parked.waiting.items():
            yield name, moment
    for read in worker.ordered or ():
        if read.oldest is not None:
            yield read.subscriber.id, read.oldest


def _written(deliveries: Iterable[Delivery]) -> Iterator[tuple[str, int]]:
    for delivery in deliveries:
        moment = delivery.envelope.record.timestamp
        if moment < 0:  # Kafka was told none
            moment = delivery.first or 0
        if moment > 0:
            yield delivery.subscriber.id, moment
