"""The store on PostgreSQL with pgvector."""

from search_svc.postgres.store import PostgresStore

__all__ = ["PostgresStore"]
