"""Which of KFP's rules a compiled pipeline breaks, found without running it. Needs the base install only."""
