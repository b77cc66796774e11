"""What the bytes of a sound file are, and which of them are sound.

libsndfile reads the first of several songs that were joined, believes a length in a header that nobody filled in, and
estimates that of an MP3 whose frames differ in size. So the structure of a file is read here, from headers alone, and
libsndfile is given one part after the other, with a header that is true (see `pieces.Spliced`).
"""
