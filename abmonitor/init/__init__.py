"""The first settings file, guessed from samples."""
