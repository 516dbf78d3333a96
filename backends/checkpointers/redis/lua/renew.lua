-- ARGV: epoch, lease in microseconds, health.
if is_fenced() then return redis.error_reply('FENCED') end
if redis.call('HGET', run .. 'run', 'status') == 'running' then
  redis.call('HSET', run .. 'run', 'lease_until', now(tonumber(ARGV[2])))
  set_or_drop('health', ARGV[3])
end
return redis.call('HEXISTS', run .. 'run', 'is_cancel_requested')
