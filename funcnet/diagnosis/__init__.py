"""Tables and verdicts: what a network costs, and why it does not learn."""
