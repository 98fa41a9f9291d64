"""How pages look: templates, styles, scripts, headers, and how times and amounts are written."""
