"""Training: assigners, samplers, targets, the pair losses and the loop around them."""
