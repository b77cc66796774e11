"""Tables and pictures of scores: `python -m mt2_music.train.probing.report`."""
