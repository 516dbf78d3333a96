-- ARGV: nothing, run id, invocation id, time ('' is now), first step, then the fields of the run with their values.
if redis.call('EXISTS', run .. 'run') == 1 then return 0 end
local created_at = ARGV[4] ~= '' and ARGV[4] or now()
redis.call('HSET', run .. 'run', 'epoch', 0, 'status', 'submitted', 'run_id', ARGV[2], 'invocation_id', ARGV[3],
  'created_at', created_at, unpack(ARGV, 6))
redis.call('HSET', run .. 'steps', 0, created_at .. '\n' .. ARGV[5])
redis.call('ZADD', index .. 'runs', created_at, ARGV[2])
redis.call('ZADD', index .. 'names', 0, ARGV[2])
begin_invocation(ARGV[2])
begin_invocation(ARGV[3])
index_as_it_stands(run)
return 1
