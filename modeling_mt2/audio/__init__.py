"""Where audio comes from: files of folders, and cells of data sets."""
