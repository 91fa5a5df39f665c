"""What moves traffic: one small adapter per way of doing it."""
