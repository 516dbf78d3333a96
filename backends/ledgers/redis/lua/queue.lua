-- ARGV: time, epoch, claim deadline in seconds, then fan-out, index, generation, deliveries, key, item of each.
-- Answers ok, done or busy for each.
local now = clock()
local lasts = tonumber(ARGV[3])

local fan_outs = {}
for at = 4, #ARGV, 6 do fan_outs[ARGV[at]] = true end
local refusal = guard(tonumber(ARGV[2]), fan_outs)
if refusal then return refusal end

local function queue(fan_out, index, generation, deliveries, key, item)
  local entry = find(fan_out, index, generation)
  if not entry and is_over(fan_out, index, generation) then return 'done' end
  if entry and entry.stage == 'reported' then return 'done' end
  if entry and entry.stage == 'running' and entry.ends > now then return 'busy' end
  -- Comes first: a full server refuses a script at its first write only, and only where that one adds.
  local order = redis.call('HINCRBY', run .. fan_out .. ':head', 'last_order', 1)
  entry = entry or fresh(fan_out, index, generation)
  entry.stage, entry.ends, entry.lasts, entry.order, entry.key = 'queued', now + lasts, lasts, order, key
  entry.declined_by, entry.reason, entry.delivery = nil, nil, math.max(entry.delivery, deliveries)
  redis.call('HSET', run .. fan_out .. ':items', index, item)
  save(fan_out, index, entry)
  return 'ok'
end

local answers = {}
for at = 4, #ARGV, 6 do
  local generation, deliveries = tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  answers[#answers + 1] = queue(ARGV[at], ARGV[at + 1], generation, deliveries, ARGV[at + 4], ARGV[at + 5])
end
return answers
