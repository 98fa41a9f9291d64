"""How a payment is made: what is offered, how it is signed, and how it reaches its chain."""
