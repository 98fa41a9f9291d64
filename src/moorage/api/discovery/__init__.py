"""What a stranger finds out from the gateway's address alone: one set of facts, several documents.

Everything here is computed when the gateway starts; answering does no work.
"""
