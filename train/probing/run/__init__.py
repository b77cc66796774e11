"""Run the benchmark: `python -m mt2_music.train.probing.run`."""
