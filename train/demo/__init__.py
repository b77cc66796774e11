"""`make demo`: what a published model makes of songs."""
