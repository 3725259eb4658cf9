"""The servers that a store URL names, and which of them may be used."""

import re
from urllib.parse import parse_qsl, urlencode, urlsplit

from search_svc.store import StoreRefused

BAD_URL = "the store URL cannot be read: write postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
READS_ONLY = ("standby", "prefer-standby", "read-only")
_WANTS = ("any", "primary", "read-write", *READS_ONLY)


def servers(url: str) -> tuple[list[str], str]:
    """Return one URL for each server of `url`, in order, and which server is wanted (libpq's target_session_attrs).

    Several hosts are a primary with its standbys, so that "read-write" is wanted where the URL does not say.

    Raises:
        StoreRefused: the URL cannot be read. Its text shows no part of the URL.
    """
    try:
        parts = urlsplit(url)
        query = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise StoreRefused(BAD_URL) from None
    options = dict(query)
    wanted = options.pop("target_session_attrs", "")
    user, at, named = parts.netloc.rpartition("@")
    hosts = options.pop("host", "").split(",") if "host" in options else named.split(",")
    ports = options.pop("port", "").split(",") if "port" in options else []
    by_query = "host" in dict(query)
    if not by_query and ports:
        # libpq reads the port of the query last.
        hosts = [re.sub(r":\d*$", "", host) for host in hosts]
    if len(ports) > 1 and len(ports) != len(hosts):
        raise StoreRefused("the store URL names other than one port or as many ports as hosts")
    wanted = wanted or ("read-write" if len(hosts) > 1 else "any")
    if wanted not in _WANTS:
        raise StoreRefused(f"the store URL's target_session_attrs is unknown: write one of {', '.join(_WANTS)}")
    urls = []
    for index, host in enumerate(hosts):
        own = dict(options)
        if by_query:
            own["host"] = host
        if ports:
            own["port"] = ports[index % len(ports)]
        netloc = user + at + ("" if by_query else host)
        query_part = f"?{urlencode(own)}" if own else ""
        urls.append(f"{parts.scheme}://{netloc}{parts.path}{query_part}")
    return urls, wanted
