"""What all rooms stand on: protocols, specs, the walkers over layers, contractions, validation, numbers, files."""
