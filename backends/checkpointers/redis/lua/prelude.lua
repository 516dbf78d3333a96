-- Stands before every verb's script. KEYS[1] is the prefix of the run's keys, KEYS[2] that of the indexes (keys.py
-- says which there are); ARGV[1] is the epoch of the owner who writes.
local run, index = KEYS[1], KEYS[2]

-- As text: a Lua number would be shortened to 14 digits where it is kept.
local function now(more)
  local time = redis.call('TIME')
  return string.format('%.0f', time[1] * 1000000 + time[2] + (more or 0))
end

local function is_driven()
  local status, lease_until = unpack(redis.call('HMGET', run .. 'run', 'status', 'lease_until'))
  return status == 'running' and tonumber(lease_until or '0') > tonumber(now())
end

local function is_fenced()
  return redis.call('HGET', run .. 'run', 'epoch') ~= ARGV[1]
end

local function set_or_drop(field, value)
  if value == '' then
    redis.call('HDEL', run .. 'run', field)
  else
    redis.call('HSET', run .. 'run', field, value)
  end
end

local function begin_invocation(invocation)
  if redis.call('HSETNX', run .. 'invocations', invocation, now()) == 1 then
    redis.call('HSET', index .. 'invocations', invocation, redis.call('HGET', run .. 'run', 'run_id'))
  end
end

local function set_folds(folds)
  for _, fold in ipairs(cjson.decode(folds)) do
    if redis.call('HEXISTS', run .. 'fan_outs', fold[1]) == 1 then
      redis.call('HSET', run .. 'fan_outs', fold[1] .. ':fold', fold[2] .. ' ' .. fold[3])
    end
  end
end

-- Puts a run into the index of open ones or of those that have ended, as it stands now; `of` is what its keys start with.
local function index_as_it_stands(of)
  local run_id, created_at, ended_at = unpack(redis.call('HMGET', of .. 'run', 'run_id', 'created_at', 'ended_at'))
  if not run_id then return end
  redis.call('ZREM', index .. (ended_at and 'open' or 'ended'), run_id)
  redis.call('ZADD', index .. (ended_at and 'ended' or 'open'), ended_at or created_at, run_id)
end
