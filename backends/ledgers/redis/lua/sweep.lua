-- ARGV: time, epoch, outstanding slots as JSON {fan-out: [[index, generation]...]}.
-- Answers {lapsed, overdue, declined, unknown}; each entry starts with fan-out, index, generation. One that is unknown
-- ends with 1 where something stood in its place that others have put there; it is gone with this answer.
local now = clock()
local outstanding = cjson.decode(ARGV[3])
local refusal = guard(tonumber(ARGV[2]), outstanding)
if refusal then return refusal end

local found = { lapsed = {}, overdue = {}, declined = {}, unknown = {} }
local entries, owners = {}, {}

-- Where the server's clock was set back, what has been waited for would last longer by as much.
local function shorten(fan_out, index, entry)
  if entry.lasts and entry.ends > now + entry.lasts then
    entry.ends = now + entry.lasts
    save(fan_out, index, entry)
  end
end

-- Takes away what is no entry, or says that a report has come where there is none; whether there was such a thing.
local function is_refused(fan_out, index)
  local entry = entry_of(fan_out, index)
  if entry and (entry.stage ~= 'reported' or redis.call('HSTRLEN', run .. fan_out .. ':reports', index) > 0) then
    return false
  end
  return redis.call('HDEL', run .. fan_out .. ':slots', index) == 1
end

local function look(fan_out, index, generation)
  local refused = is_refused(fan_out, index) and 1 or 0
  local entry = find(fan_out, index, generation)
  if entry then shorten(fan_out, index, entry) end
  if not entry or entry.stage == 'free' then
    if not is_over(fan_out, index, generation) then return 'unknown', { fan_out, index, generation, refused } end
  elseif entry.stage == 'running' and entry.ends <= now then
    owners[entry.owner] = 0
    return 'lapsed', { fan_out, index, generation, entry.owner, entry.delivery }
  elseif entry.stage == 'queued' and entry.declined_by then
    return 'declined', { fan_out, index, generation, entry.declined_by, entry.reason }
  elseif entry.stage == 'queued' and entry.ends <= now then
    local is_overtaken = tonumber(redis.call('HGET', run .. fan_out .. ':head', 'last_claimed')) > entry.order
    return 'overdue', { fan_out, index, generation, is_overtaken and 1 or 0 }
  end
end

-- Remembers who was lost together: the others may be queued again, one by one, before the next sweep.
local function mark_company()
  local company = {}
  for _, fan_out in ipairs(redis.call('SMEMBERS', run .. 'fan_outs')) do
    each_entry(fan_out, function(index, entry)
      if entry.stage == 'running' and owners[entry.owner] then
        owners[entry.owner] = owners[entry.owner] + 1
        company[#company + 1] = { fan_out, index, entry }
      end
    end)
  end
  for _, one in ipairs(company) do
    local fan_out, index, entry = unpack(one)
    if owners[entry.owner] > 1 and not entry.is_accompanied then
      entry.is_accompanied = true
      save(fan_out, index, entry)
    end
  end
end

for fan_out, slots in pairs(outstanding) do
  for _, slot in ipairs(slots) do
    local kind, entry = look(fan_out, slot[1], slot[2])
    if kind then table.insert(found[kind], entry) end
  end
end
if next(owners) then mark_company() end
for _, lapse in ipairs(found.lapsed) do
  local entry = entry_of(lapse[1], lapse[2])
  lapse[6] = (entry.is_accompanied or entry.is_in_company or entry.is_handed_back) and 0 or 1
  lapse[7] = entry.is_handed_back and 1 or 0
end
return { found.lapsed, found.overdue, found.declined, found.unknown }
