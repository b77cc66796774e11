"""Fill the card of a published model: `python -m mt2_music.train.card`."""
