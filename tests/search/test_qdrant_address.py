"""Store URLs of Qdrant."""

import pytest

from search_svc.qdrant.address import Folder, QdrantAddress, is_qdrant, parse_address


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
    assert is_qdrant(url)
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


@pytest.mark.parametrize("url", ["postgresql://host/qdrant", "", "qdrantx://host"])
def test_what_is_not_qdrants(url: str) -> None:
    assert not is_qdrant(url)
