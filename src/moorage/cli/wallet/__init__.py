"""The commands of the owner of a wallet. They speak HTTP only."""
