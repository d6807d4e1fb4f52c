"""Which of KFP's rules a compiled pipeline breaks, found without running it. Needs the base install only.

`rules` is light, as the runner of the embedded KFP imports it for each run; nothing is imported here.
"""
