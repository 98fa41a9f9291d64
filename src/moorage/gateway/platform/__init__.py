"""What a gateway runs apps and proxy on: opened here by the keeper, known here by the others."""
