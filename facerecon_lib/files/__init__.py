"""Files: written whole, fetched, checked; and the one line that says what is wrong with one."""
