-- This one fails.

error("broken on purpose")
