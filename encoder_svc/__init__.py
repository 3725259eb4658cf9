"""EncoderService: images and texts as vectors."""
