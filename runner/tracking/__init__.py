"""What a run says while it goes on: log, progress, metrics, Weights & Biases, and what it was made on."""
