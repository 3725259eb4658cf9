"""What is read ahead and how it is cut into messages."""

from lensmesh.router.v1 import router_pb2
from lensmesh_client.window import Entry, Window


def entries(count: int, size_bytes: int) -> list[Entry]:
    return [
        Entry(number, "", router_pb2.IngestItem(ref=str(number), id=f"id{number}"), size_bytes)
        for number in range(count)
    ]


async def filled(count: int, size_bytes: int) -> Window:
    window = Window(max_items=1_000, max_bytes=1_000_000)
    for entry in entries(count, size_bytes):
        await window.admit(entry)
    return window


async def test_messages_are_filled_up_to_the_limits() -> None:
    window = await filled(50, 3_000)
    assert [entry.index for entry in window.take(max_items=7, max_bytes=100_000)] == [0, 1, 2, 3, 4, 5, 6]
    assert [entry.index for entry in window.take(max_items=256, max_bytes=10_000)] == [7, 8, 9]
    # What is larger than a message should be is sent alone: only the server can say what is too large.
    assert len(window.take(max_items=256, max_bytes=100)) == 1
    # No limit advertised: the client's own.
    assert len(window.take(max_items=0, max_bytes=0)) == 32
    assert len(window.take(max_items=0, max_bytes=0)) == 7
    assert window.take(max_items=0, max_bytes=0) == []


async def test_a_broken_stream_puts_all_back_in_order() -> None:
    window = await filled(10, 10)
    window.take(max_items=4, max_bytes=0)
    answered = window.answered("1")
    assert answered is not None
    assert window.unsend() == 9
    assert [entry.index for entry in window.take(max_items=0, max_bytes=0)] == [0, 2, 3, 4, 5, 6, 7, 8, 9]
    assert window.answered("1") is None


async def test_it_is_finished_when_all_is_answered() -> None:
    window = await filled(2, 10)
    window.take(max_items=0, max_bytes=0)
    window.end_of_input()
    assert window.nothing_to_send
    for ref in ("0", "1"):
        assert not window.finished
        entry = window.answered(ref)
        assert entry is not None
        window.release(entry)
    assert window.finished
    assert not await window.something_to_do()
