"""SPIFFE ids as settings name them."""

_SCHEME = "spiffe://"


def parse_identities(text: str) -> tuple[str, ...]:
    """Read SPIFFE ids from a comma-separated list; `*` stands for any text. Raises ValueError naming the bad one."""
    identities = tuple(part.strip() for part in text.split(",") if part.strip())
    for identity in identities:
        if not identity.startswith(_SCHEME) or identity == _SCHEME:
            raise ValueError(f"{identity!r} is no SPIFFE id: write spiffe://DOMAIN/PATH, * for any text")
    return identities
