-- ARGV: time. Answers the epoch that the run was last opened under, or forgotten under; 0 where neither is known.
return tonumber(redis.call('HGET', run .. 'meta', 'epoch') or redis.call('GET', run .. 'tombstone') or 0)
