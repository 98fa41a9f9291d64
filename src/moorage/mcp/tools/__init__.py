"""What the tools are called, take, return and mean; each says which request of the API it is."""
