-- ARGV: epoch, status, whether the run has ended with it, error, invocation id.
if is_fenced() then return redis.error_reply('FENCED') end
if redis.call('HGET', run .. 'run', 'status') ~= 'running' then return 0 end
local time = now()
redis.call('HDEL', run .. 'run', 'health')
redis.call('HSET', run .. 'run', 'status', ARGV[2], 'lease_until', time)
set_or_drop('error', ARGV[4])
set_or_drop('ended_at', ARGV[3] == '1' and time or '')
redis.call('HSET', run .. 'invocations', ARGV[5] .. ':ended', time .. ' ' .. ARGV[2] .. ' ' .. ARGV[4])
index_as_it_stands(run)
return 1
