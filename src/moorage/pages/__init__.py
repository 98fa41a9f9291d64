"""Pages for people: for whom an agent works, and for the operator.

`rendering/` templates, styles and headers · `sessions/` who looks, and what they may · `wallet/`
what a wallet's owner sees, by calls to the API in this process · `operator/` what an
operator sees.
"""
