"""EncoderService: pictures and texts as vectors."""
