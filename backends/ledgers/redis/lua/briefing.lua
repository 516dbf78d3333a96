-- ARGV: time, fan-out. Answers what all its instances share.
return redis.call('HGET', run .. ARGV[2] .. ':head', 'briefing')
