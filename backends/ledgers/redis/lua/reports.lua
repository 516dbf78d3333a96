-- ARGV: time, largest answer in bytes, then the fan-outs. Answers {{last notice of each}, {fan-out, index, report}...}.
-- Reports beyond that size wait until these are closed: one answer must not stop the server for seconds.
if redis.call('EXISTS', run .. 'meta') == 0 then return redis.error_reply('LEDGERLOST run') end

local function last_notice(fan_out)
  local last = redis.call('XREVRANGE', run .. fan_out .. ':wake', '+', '-', 'COUNT', 1)[1]
  return last and last[1] or '0-0'
end

local answers = { {} }
for at = 3, #ARGV do answers[1][at - 2] = last_notice(ARGV[at]) end

local room = tonumber(ARGV[2])
for at = 3, #ARGV do
  local fan_out = ARGV[at]
  local kept = run .. fan_out .. ':reports'
  for _, index in ipairs(redis.call('HKEYS', kept)) do
    if room <= 0 then return answers end
    local text = redis.call('HGET', kept, index)
    room = room - #text
    answers[#answers + 1] = { fan_out, index, text }
  end
end
return answers
