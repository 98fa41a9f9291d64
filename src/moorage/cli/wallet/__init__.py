"""The commands of whoever owns a wallet. They speak HTTP only."""
