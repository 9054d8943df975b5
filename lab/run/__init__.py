"""A running lab, and one run of a scenario from its plan to its verdict."""
