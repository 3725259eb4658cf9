"""The captioner: images in words, by any BLIP captioner of transformers, the bundled shapes model, or a mock."""
