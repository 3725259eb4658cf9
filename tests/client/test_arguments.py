"""Methods that take the fields of a dataclass: their help, their signature, and what they refuse."""

import inspect
from dataclasses import dataclass

import pytest

from lensmesh_client import Client, Embedding, Search
from lensmesh_client.arguments import described, taking
from lensmesh_client.errors import InvalidInput
from tests.client.fake_router import FakeRouter


@dataclass(kw_only=True)
class Base:
    """What all have.

    Args:
        size: How large,
            in metres.
    """

    size: int = 0


@described
@dataclass
class Box(Base):
    """A box.

    Args:
        name: Its name.
    """

    name: str = ""


@dataclass
class Bare:
    name: str = ""


class Shop:
    @taking(Box)
    async def buy(self, box: Box) -> str:
        """Buy a box.

        Returns:
            What it is called.
        """
        return box.name * box.size


async def test_a_method_has_the_arguments_of_its_dataclass() -> None:
    assert await Shop().buy("a", size=2) == "aa"
    assert [*inspect.signature(Shop.buy).parameters] == ["self", "name", "size"]
    told = "Args:\n    name: Its name.\n    size: How large,\n        in metres.\n"
    assert inspect.getdoc(Shop.buy) == f"Buy a box.\n\n{told}\nReturns:\n    What it is called."
    assert inspect.getdoc(Box) == f"A box.\n\n{told.rstrip()}"
    with pytest.raises(TypeError, match="colour"):
        await Shop().buy("a", colour="red")  # type: ignore[call-arg]  # its very point


def test_a_dataclass_that_says_nothing_stays_as_it_is() -> None:
    before = Bare.__doc__
    assert described(Bare).__doc__ == before


async def test_an_embedding_has_its_space_already(client: Client, router: FakeRouter) -> None:
    vector = Embedding([1.0, 0, 0, 0], "vs1-x")  # type: ignore[arg-type]  # numpy makes an array of it
    await client.search(embedding=vector)
    assert router.calls[0].queries[0].embedding.space_id == "vs1-x"
    with pytest.raises(InvalidInput, match="space_id"):
        await client.search(embedding=vector, space_id="vs1-y")
    [alone] = await client.search_many([Search(embedding=vector, space_id="vs1-y")])
    assert isinstance(alone.error, InvalidInput)
