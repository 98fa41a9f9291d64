"""What a deploy costs, and for how long that is promised."""
