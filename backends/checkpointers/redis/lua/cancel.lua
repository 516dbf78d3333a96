local status = redis.call('HGET', run .. 'run', 'status')
if not status or status == 'succeeded' or status == 'cancelled' then return 0 end
redis.call('HSET', run .. 'run', 'is_cancel_requested', 1)
if is_driven() then return 1 end
-- The epoch rises where an owner may only be late, so that it cannot go on with a run that is over.
if status == 'running' then redis.call('HINCRBY', run .. 'run', 'epoch', 1) end
redis.call('HDEL', run .. 'run', 'error', 'health')
redis.call('HSET', run .. 'run', 'status', 'cancelled', 'ended_at', now())
index_as_it_stands(run)
return 1
