"""Store URLs of Qdrant."""

import pytest

from lensmesh_cli import stores as cli_stores
from search_svc.qdrant.address import Folder, QdrantAddress, parse_address
from search_svc.stores import STORES, store_kind


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("qdrant://host", QdrantAddress("host", 6334, False, "lensmesh", "")),
        ("qdrant://host:7000/", QdrantAddress("host", 7000, False, "lensmesh", "")),
        (
            "qdrants://:k%2Fey@host.example.org:443/staging",
            QdrantAddress("host.example.org", 443, True, "staging", "k/ey"),
        ),
        ("qdrant://key@host", QdrantAddress("host", 6334, False, "lensmesh", "key")),
        ("qdrant://[::1]:6334", QdrantAddress("[::1]", 6334, False, "lensmesh", "")),
        ("qdrant+local:/srv/vectors", Folder("/srv/vectors")),
        ("qdrant+local:///srv/vectors", Folder("/srv/vectors")),
        ("qdrant+local:vectors", Folder("vectors")),
    ],
)
def test_what_a_url_names(url: str, address: QdrantAddress | Folder) -> None:
    assert store_kind(url).module == "search_svc.qdrant.store"
    assert parse_address(url) == address


@pytest.mark.parametrize(
    "url",
    [
        "qdrant://",
        "qdrant://:very-secret@",
        "qdrant://:very-secret@host:port",
        "qdrant://:very-secret@host:70000",
        "qdrant://[very-secret",
        "qdrant://host/very-secret!",
        "qdrant://host/a/very-secret",
        "qdrant://host?api_key=very-secret",
        "qdrant+local:",
    ],
)
def test_what_cannot_be_read_is_said_without_secrets(url: str) -> None:
    with pytest.raises(ValueError, match="write qdrant") as caught:
        parse_address(url)
    assert "very-secret" not in str(caught.value)


def test_a_key_is_never_shown() -> None:
    assert "very-secret" not in repr(parse_address("qdrant://:very-secret@host"))


def test_another_store_is_not_qdrants() -> None:
    assert store_kind("postgresql://host/qdrant").module == "search_svc.postgres.store"


@pytest.mark.parametrize("url", ["", "qdrantx://very-secret", "mysql://very-secret"])
def test_a_store_that_nobody_knows_is_told_without_secrets(url: str) -> None:
    with pytest.raises(ValueError, match=r"write postgresql.*qdrant") as caught:
        store_kind(url)
    assert "very-secret" not in str(caught.value)


def test_the_command_line_knows_the_same_stores() -> None:
    """It may not import this service, and looks at a store before the service is started."""
    schemes = [scheme for kind in STORES for scheme in kind.schemes]
    troubles = [cli_stores.trouble(f"{scheme}://[") for scheme in schemes]
    assert not [one for one in troubles if one is not None and "of no known kind" in one.what]
