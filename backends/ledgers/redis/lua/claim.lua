-- ARGV: time, ttl seconds, token, owner, 1 where it is in the company of other runs, then fan-out, index, generation of
-- each slot. Answers {verdict} or {'ok', delivery, briefing hash, item, progress...} for each, and at last 1 where this
-- owner is new to the run: it must be found when it dies, and a server that was lost has forgotten it.
local ttl, token, owner, in_company = tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5] == '1'
local now = clock()
local is_new = 0

local function verdict_of(fan_out, index, generation, entry)
  if not entry or entry.generation ~= generation or entry.stage == 'free' then
    return is_over(fan_out, index, generation) and 'done' or 'unknown'
  end
  if entry.stage == 'reported' then return 'done' end
  local is_running = entry.stage == 'running'
  if is_running and entry.token == token then return 'ok' end
  if is_cancelled(fan_out) then return 'cancelled' end
  -- Also where the lease has ended: the loss must be seen by a sweep before another delivery covers it.
  return is_running and 'busy' or 'ok'
end

local function grant(fan_out, index, entry)
  if entry.stage == 'running' and entry.token == token then return end
  local head = run .. fan_out .. ':head'
  if entry.order > tonumber(redis.call('HGET', head, 'last_claimed')) then
    redis.call('HSET', head, 'last_claimed', entry.order)
  end
  entry.stage, entry.token, entry.owner, entry.ends, entry.lasts = 'running', token, owner, now + ttl, ttl
  entry.delivery = entry.delivery + 1
  entry.declined_by, entry.reason, entry.is_released, entry.is_accompanied, entry.is_handed_back = nil, nil, nil, nil, nil
  entry.is_in_company = in_company or nil
  save(fan_out, index, entry)
  if redis.call('HSET', run .. 'meta', 'owner ' .. owner, 1) == 1 then is_new = 1 end
end

local function claim(fan_out, index, generation)
  local briefing_hash = redis.call('HGET', run .. fan_out .. ':head', 'briefing_hash')
  if not briefing_hash then return { is_forgotten() and 'done' or 'unknown' } end
  local entry = entry_of(fan_out, index)
  local verdict = verdict_of(fan_out, index, generation, entry)
  if verdict ~= 'ok' then return { verdict } end
  grant(fan_out, index, entry)
  local item = redis.call('HGET', run .. fan_out .. ':items', index)
  local answer = { 'ok', entry.delivery, briefing_hash, item }
  if entry.has_progress then
    answer[5] = redis.call('LRANGE', run .. fan_out .. ':progress:' .. index, 0, -1)
  end
  return answer
end

local answers = {}
for at = 6, #ARGV, 3 do
  answers[#answers + 1] = claim(ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2]))
end
answers[#answers + 1] = is_new
return answers
