-- ARGV: time. Answers the epoch that the run was last opened under, or forgotten under; 0 where neither is known.
return known_epoch() or 0
