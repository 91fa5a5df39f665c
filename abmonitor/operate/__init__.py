"""Work on the topics of a deployment: create, copy, fill, look at what was rejected."""
