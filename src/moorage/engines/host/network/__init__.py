"""How apps are reached: what they listen on, whether they answer, and the way there."""
