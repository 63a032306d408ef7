"""Pictures: files in and out, what the network is given of them, and tiles."""
