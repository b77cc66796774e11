"""What many songs give: archives, tables, and the songs that are like a song."""
