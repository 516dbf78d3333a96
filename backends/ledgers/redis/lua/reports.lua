-- ARGV: time, largest answer in bytes. Answers {last notice, {fan-out, index, report}...}.
-- Reports beyond that size wait until these are closed: one answer must not stop the server for seconds.
if redis.call('EXISTS', run .. 'meta') == 0 then return redis.error_reply('LEDGERLOST run') end

local last = redis.call('XREVRANGE', run .. 'wake', '+', '-', 'COUNT', 1)[1]
local answers = { last and last[1] or '0-0' }
local room = tonumber(ARGV[2])
for _, fan_out in ipairs(redis.call('SMEMBERS', run .. 'fan_outs')) do
  local kept = run .. fan_out .. ':reports'
  for _, index in ipairs(redis.call('HKEYS', kept)) do
    if room <= 0 then return answers end
    local text = redis.call('HGET', kept, index)
    room = room - #text
    answers[#answers + 1] = { fan_out, index, text }
  end
end
return answers
