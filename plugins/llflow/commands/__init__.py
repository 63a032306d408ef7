"""One file a command: its arguments (`add`) and what it does with them (`run`)."""
