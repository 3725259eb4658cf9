"""Words of captions and metadata, cut and compared alike by every store. Knows no database."""
