-- ARGV: nothing, owner, invocation id, lease in microseconds, the owner who is known to be dead, the new
-- fingerprint.
local fields = redis.call('HMGET', run .. 'run', 'owner', 'invocation_id', 'status', 'run_id')
local owner, invocation, status, run_id = unpack(fields)
if not run_id then return {'missing'} end
local is_ours_already = owner == ARGV[2] and invocation == ARGV[3]
local is_of_the_dead = ARGV[5] ~= '' and owner == ARGV[5]
if is_driven() and not is_of_the_dead and not is_ours_already then return {'driven', owner} end
if status == 'succeeded' or status == 'failed' then
  redis.call('HDEL', run .. 'run', 'is_cancel_requested')
end
redis.call('HDEL', run .. 'run', 'ended_at', 'error', 'health')
redis.call('HSET', run .. 'run', 'status', 'running', 'owner', ARGV[2], 'invocation_id', ARGV[3],
  'lease_until', now(tonumber(ARGV[4])))
if ARGV[6] ~= '' then redis.call('HSET', run .. 'run', 'fingerprint', ARGV[6]) end
begin_invocation(ARGV[3])
return {'ok', redis.call('HINCRBY', run .. 'run', 'epoch', 1)}
