local run_id = redis.call('HGET', run .. 'run', 'run_id')
if not run_id then return 0 end
for _, invocation in ipairs(redis.call('HKEYS', run .. 'invocations')) do
  if redis.call('HGET', index .. 'invocations', invocation) == run_id then
    redis.call('HDEL', index .. 'invocations', invocation)
  end
end
for _, fan_out in ipairs(redis.call('SMEMBERS', run .. 'recorded_in')) do
  for _, kind in ipairs({'slots:', 'latest:', 'tally:', 'errors:', 'losses:', 'charged:'}) do
    redis.call('UNLINK', run .. kind .. fan_out)
  end
end
redis.call('UNLINK', run .. 'run', run .. 'invocations', run .. 'steps', run .. 'fan_outs', run .. 'entered',
  run .. 'recorded_in')
redis.call('ZREM', index .. 'runs', run_id)
redis.call('ZREM', index .. 'names', run_id)
redis.call('ZREM', index .. 'open', run_id)
redis.call('ZREM', index .. 'ended', run_id)
return 1
