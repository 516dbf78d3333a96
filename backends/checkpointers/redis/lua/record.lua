-- ARGV: epoch, time ('' is now), then for each report: fan-out, index, generation, 'contribution' or 'error', outcome,
-- delivery, folds, report. Answers how many contributions were the first of their slot.
if is_fenced() then return redis.error_reply('FENCED') end
local recorded_at = ARGV[2] ~= '' and ARGV[2] or now()

-- Takes a row out of the tally that a later generation replaces.
local function replace_in_tally(tally, row)
  local outcome, delivery = string.match(row, '^%d+ (%a+) (%d+)\n')
  redis.call('HINCRBY', tally, outcome, -1)
  redis.call('HINCRBY', tally, 'deliveries', 0 - delivery)
end

-- Whether a contribution is the latest generation of its slot, which is then the one that counts.
local function becomes_latest(fan_out, position, generation)
  local latest = redis.call('HGET', run .. 'latest:' .. fan_out, position)
  local slots = run .. 'slots:' .. fan_out
  if latest and tonumber(latest) > generation then return false end
  if generation == 0 then return true end
  local replaced = redis.call('HGET', slots, position .. ':' .. (latest or '0'))
  if replaced then replace_in_tally(run .. 'tally:' .. fan_out, replaced) end
  redis.call('HSET', run .. 'latest:' .. fan_out, position, generation)
  return true
end

local function keep(fan_out, position, generation, outcome, delivery, row)
  local is_latest = becomes_latest(fan_out, position, tonumber(generation))
  local tally = run .. 'tally:' .. fan_out
  redis.call('HSET', run .. 'slots:' .. fan_out, position .. ':' .. generation, row)
  redis.call('HSETNX', tally, 'first_at', recorded_at)
  redis.call('HSET', tally, 'last_at', recorded_at)
  if tonumber(position) >= tonumber(redis.call('HGET', tally, 'stop') or '0') then
    redis.call('HSET', tally, 'stop', position + 1)
  end
  if is_latest then
    redis.call('HINCRBY', tally, outcome, 1)
    redis.call('HINCRBY', tally, 'deliveries', delivery)
  end
end

local first = 0
for at = 3, #ARGV, 8 do
  local fan_out, position, generation, kind, outcome, delivery, folds, report = unpack(ARGV, at, at + 7)
  local field = position .. ':' .. generation
  local row = recorded_at .. ' ' .. outcome .. ' ' .. delivery .. '\n' .. report
  redis.call('SADD', run .. 'recorded_in', fan_out)
  if kind == 'error' then
    redis.call('HSET', run .. 'errors:' .. fan_out, field, row)
  elseif redis.call('HEXISTS', run .. 'slots:' .. fan_out, field) == 0 then
    keep(fan_out, position, generation, outcome, delivery, row)
    set_folds(folds)
    first = first + 1
  end
end
return first
