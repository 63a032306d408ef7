"""LLFlow over HTTP, and its page: `llflow serve`."""
