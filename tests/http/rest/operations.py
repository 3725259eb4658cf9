"""The operations of the REST face, without a router behind them."""

from typing import Any

from http_svc.rest.face import rest_operations
from http_svc.rest.operations import RestOperation
from http_svc.settings import HttpSettings


def all_operations() -> list[RestOperation]:
    """Return all operations; their handlers are of no use."""
    nothing: Any = None
    return rest_operations(HttpSettings(), nothing)
