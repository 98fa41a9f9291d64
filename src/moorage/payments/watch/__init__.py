"""What chains do later: payments nobody presented, finality, reorganisations."""
