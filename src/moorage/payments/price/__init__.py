"""What a deploy costs, and how long a quoted price holds."""
