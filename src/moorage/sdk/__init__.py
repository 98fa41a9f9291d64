"""A client for the HTTP contract: signs, pays, deploys, follows."""
