"""Hub folders: calibration, the layer of 24 keys, cards and their figures."""
