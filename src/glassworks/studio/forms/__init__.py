"""Forms: what a person fills in for each verb, understood by the specs that the command line uses; only answers import it."""
