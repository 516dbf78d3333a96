-- KEYS[1]: the registry. ARGV: time, worker, ttl seconds, facts as JSON.
local ends = clock() + tonumber(ARGV[3])
redis.call('HSET', KEYS[1], ARGV[2], cmsgpack.pack({ ends, ARGV[4] }))
