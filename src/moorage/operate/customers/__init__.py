"""What an operator does about customers: their projects, credits, and what they are told."""
