"""Apps that sleep: when one may, who visits, and how it is woken."""
