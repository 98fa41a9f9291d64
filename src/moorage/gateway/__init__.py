"""How a gateway is put together and run: every service made from settings, in the right order.

The one room that names concrete classes. Nothing but a command imports it.
"""
