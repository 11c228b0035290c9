"""Files, processes, the terminal and HTML, used by the whole library."""
