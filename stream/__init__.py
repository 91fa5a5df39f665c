"""Events in, ledgers out: decode, join, fold and commit, exactly once."""
