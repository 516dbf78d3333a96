-- ARGV: time. Answers when the run was created, as it was opened or forgotten with; empty where neither is known.
return created_at()
