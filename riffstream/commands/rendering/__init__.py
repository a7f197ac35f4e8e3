"""Parts of ``riffstream render``: the music of the options, and batches with their index page."""
