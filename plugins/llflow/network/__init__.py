"""The network: encoder, prior, flow, and its checkpoints."""
