-- ARGV: nothing, owner, invocation id, lease in microseconds, the epoch that the run was seen with (or ''), whether
-- its owner is known to be dead, the new fingerprint.
local fields = redis.call('HMGET', run .. 'run', 'owner', 'invocation_id', 'status', 'run_id', 'epoch')
local owner, invocation, status, run_id, epoch = unpack(fields)
if not run_id then return {'missing'} end
if status == 'succeeded' or status == 'cancelled' then return {'over', status} end
local is_ours_already = owner == ARGV[2] and invocation == ARGV[3]
local is_as_seen = ARGV[5] == '' or ARGV[5] == epoch
local is_free = is_as_seen and (ARGV[6] == '1' or not is_driven())
if not is_ours_already and not is_free then return {'driven', owner or ''} end
if status == 'failed' then redis.call('HDEL', run .. 'run', 'is_cancel_requested') end
redis.call('HDEL', run .. 'run', 'ended_at', 'error', 'health')
redis.call('HSET', run .. 'run', 'status', 'running', 'owner', ARGV[2], 'invocation_id', ARGV[3],
  'lease_until', now(tonumber(ARGV[4])))
if ARGV[7] ~= '' then redis.call('HSET', run .. 'run', 'fingerprint', ARGV[7]) end
begin_invocation(ARGV[3])
index_as_it_stands(run)
return {'ok', redis.call('HINCRBY', run .. 'run', 'epoch', 1)}
