"""The report by which people decide: what is known of an experiment, in words, numbers and charts."""
