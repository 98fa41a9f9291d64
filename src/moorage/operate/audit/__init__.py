"""`moorage operator audit`: the books compared with themselves and with the chains."""
