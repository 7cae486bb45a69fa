"""``python -m train run CONFIG --dry-run``: what a run would need, before any weight is loaded."""
