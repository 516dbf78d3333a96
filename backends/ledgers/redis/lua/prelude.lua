-- Stands before every verb's script. KEYS[1] is the prefix of the run's keys (keys.py says which there are),
-- ARGV[1] the time in seconds where a simulation keeps it, else empty.
local run = KEYS[1]

local function clock()
  if ARGV[1] ~= '' then return tonumber(ARGV[1]) end
  local time = redis.call('TIME')
  return tonumber(time[1]) + tonumber(time[2]) / 1000000
end

-- A later owner decides anew: a cancel flag is in force in the epoch that set it.
local function is_cancelled(fan_out)
  local epoch, cancelled = unpack(redis.call('HMGET', run .. 'meta', 'epoch', 'cancelled_in'))
  return epoch and (cancelled == epoch or redis.call('HGET', run .. fan_out .. ':head', 'cancelled_in') == epoch)
end

-- Whether the run is over, and was not opened again since.
local function is_forgotten()
  return redis.call('EXISTS', run .. 'tombstone') == 1
end

local STAGES = { free = true, queued = true, running = true, reported = true }
local LARGEST_COUNT, LATEST = 2 ^ 31 - 1, 2 ^ 53

local function is_count(value)
  return type(value) == 'number' and value >= 0 and value <= LARGEST_COUNT and value % 1 == 0
end

-- NaN, with which nothing compares, is none, nor is a number without end.
local function is_moment(value)
  return type(value) == 'number' and value >= -LATEST and value <= LATEST
end

-- A name that every store can keep.
local function is_name(value)
  return type(value) == 'string' and not value:find('%z')
end

local function is_any(kind, ...)
  for at = 1, select('#', ...) do
    local value = select(at, ...)
    if value ~= nil and type(value) ~= kind then return false end
  end
  return true
end

local function is_sound(entry)
  return type(entry) == 'table' and STAGES[entry.stage] and is_count(entry.generation) and is_count(entry.delivery)
    and is_moment(entry.ends) and is_moment(entry.order) and is_moment(entry.lasts or 0)
    and is_name(entry.token) and is_name(entry.owner) and (entry.key or entry.stage == 'free')
    and is_any('string', entry.key, entry.declined_by, entry.reason, entry.last_call)
    and is_count(entry.given or 0) and is_count(entry.given_before or 0) and is_count(entry.given_to or 0)
    and (entry.declined_by == nil) == (entry.reason == nil)
end

-- What `save` has packed; nil where others have put something else in its place: such a slot is not known.
local function unpacked(packed)
  local is_one, entry, more = pcall(cmsgpack.unpack, packed)
  return is_one and more == nil and is_sound(entry) and entry or nil
end

-- The entry of a slot of any generation; nil where there is none, which is so for every closed one.
local function entry_of(fan_out, index)
  local packed = redis.call('HGET', run .. fan_out .. ':slots', index)
  return packed and unpacked(packed) or nil
end

local function is_index(text)
  return #text <= 10 and text:find('^%d+$') and is_count(tonumber(text))
end

-- Calls `act(index, entry)` for each slot of a fan-out that is not closed.
local function each_entry(fan_out, act)
  local packed = redis.call('HGETALL', run .. fan_out .. ':slots')
  for at = 1, #packed, 2 do
    local entry = is_index(packed[at]) and unpacked(packed[at + 1])
    if entry then act(packed[at], entry) end
  end
end

local function find(fan_out, index, generation)
  local entry = entry_of(fan_out, index)
  return entry and entry.generation == generation and entry or nil
end

local function save(fan_out, index, entry)
  redis.call('HSET', run .. fan_out .. ':slots', index, cmsgpack.pack(entry))
end

-- Deletes all that is kept of a slot but its place in the bitmap.
local function drop(fan_out, index)
  redis.call('HDEL', run .. fan_out .. ':slots', index)
  redis.call('HDEL', run .. fan_out .. ':items', index)
  redis.call('HDEL', run .. fan_out .. ':reports', index)
  redis.call('UNLINK', run .. fan_out .. ':progress:' .. index)
end

local function is_closed(fan_out, index, generation)
  if tonumber(index) < 0 or redis.call('GETBIT', run .. fan_out .. ':closed', index) == 0 then return false end
  return generation <= tonumber(redis.call('HGET', run .. fan_out .. ':generations', index) or 0)
end

-- Whether this generation is closed, or a later one has begun.
local function is_over(fan_out, index, generation)
  local entry = entry_of(fan_out, index)
  if entry then return entry.generation > generation end
  return is_closed(fan_out, index, generation)
end

-- Whether the token was granted for this entry, and no later claim has replaced it.
local function is_held(entry, token)
  return entry and token ~= '' and entry.token == token and (entry.stage == 'queued' or entry.stage == 'running')
end

-- A free entry in place of whatever was there. Its deliveries count on, unless this is a new generation.
local function fresh(fan_out, index, generation)
  local before = find(fan_out, index, generation)
  drop(fan_out, index)
  redis.call('SETBIT', run .. fan_out .. ':closed', index, 0)
  return {
    generation = generation, stage = 'free', delivery = before and before.delivery or 0,
    token = '', owner = '', ends = 0, order = 0,
  }
end

local function wake(fan_out, kind)
  redis.call('XADD', run .. fan_out .. ':wake', 'MAXLEN', '~', 1000, '*', 'kind', kind)
end

-- The epoch that the run was last opened under, or forgotten under; nil where neither is known.
local function known_epoch()
  local stored = redis.call('HGET', run .. 'meta', 'epoch') or redis.call('GET', run .. 'tombstone')
  return stored and tonumber(stored:match('^%d+')) or nil
end

-- When the run was created of which the epoch is known; a run of the same id may have been deleted before this one.
local function created_at()
  local opened = redis.call('HGET', run .. 'meta', 'created_at')
  return opened or (redis.call('GET', run .. 'tombstone') or ''):match(' (.*)$') or ''
end

-- The refusal of an orchestrator that is not, or not known as, the owner; nil where it is.
local function fence(epoch)
  local stored = known_epoch()
  if stored and stored > epoch then return redis.error_reply('FENCED by a later epoch') end
end

local function guard(epoch, fan_outs)
  local refusal = fence(epoch)
  if refusal then return refusal end
  if tonumber(redis.call('HGET', run .. 'meta', 'epoch') or -1) ~= epoch then
    return redis.error_reply('LEDGERLOST epoch')
  end
  for fan_out in pairs(fan_outs) do
    if redis.call('EXISTS', run .. fan_out .. ':head') == 0 then return redis.error_reply('LEDGERLOST fan-out') end
  end
end
