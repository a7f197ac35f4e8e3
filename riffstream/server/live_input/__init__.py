"""Live input: a performer's audio becomes the seed image of a station's next clips."""
