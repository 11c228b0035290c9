"""Files, processes, the terminal and HTML: what every room of the library stands on."""
