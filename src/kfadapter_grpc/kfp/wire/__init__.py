"""KFP's JSON of runs as types; goes as the modules of the resources take it over."""
