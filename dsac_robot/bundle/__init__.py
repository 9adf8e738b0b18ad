"""What is shipped: the card, its signature and the runtime that executes the networks."""
