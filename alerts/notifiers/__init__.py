"""Who is told of what happens: one small adapter per place where people look."""
